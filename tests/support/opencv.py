"""OpenCV as an independent decoder."""

import cv2
import numpy as np


def by_opencv(data: bytes) -> np.ndarray:
    """8-bit RGB, or grey three times; alpha is dropped."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert found is not None
    return found[..., ::-1]


def by_opencv_unchanged(data: bytes) -> np.ndarray:
    """8-bit and 16-bit grey, RGB and RGBA."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    assert found is not None
    found = found.reshape(*found.shape[:2], -1)
    return found[..., [2, 1, 0, 3][: found.shape[2]]] if found.shape[2] > 1 else found
