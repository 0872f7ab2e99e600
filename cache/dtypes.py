"""How a number is stored. A new storage dtype is one entry in `DTYPES`.

Arrays come in two forms: *values* (floating point, what the trunk computed) and *raw* (what lies in the file,
in `StorageDtype.raw`). bfloat16 has no numpy dtype, so its raw form is the bit pattern in uint16.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from h5py import h5t
from numpy.typing import NDArray

Values = NDArray[np.floating]
Raw = NDArray[Any]


@dataclass(frozen=True)
class StorageDtype:
    """One way of storing a number.

    raw: numpy's view of the bytes in the file. hdf5: makes the HDF5 type. encode: values → raw, to nearest
    even, overflow becoming infinite. decode: raw → float32, exact. finite: raw → bool. largest: the largest
    finite value.
    """

    name: str
    raw: np.dtype
    hdf5: Callable[[], h5t.TypeID]
    encode: Callable[[Values], Raw]
    decode: Callable[[Raw], NDArray[np.float32]]
    finite: Callable[[Raw], NDArray[np.bool_]]
    largest: float


def _ieee(name: str, hdf5: h5t.TypeID) -> StorageDtype:
    raw = np.dtype(name).newbyteorder("<")

    def encode(values: Values) -> Raw:
        with np.errstate(over="ignore"):  # the writer looks for infinities, and can say where they are
            return np.ascontiguousarray(values, dtype=raw)

    return StorageDtype(
        name=name,
        raw=raw,
        hdf5=hdf5.copy,
        encode=encode,
        decode=lambda raw_values: raw_values.astype(np.float32),
        finite=np.isfinite,
        largest=float(np.finfo(raw).max),
    )


def _bfloat16_hdf5() -> h5t.TypeID:
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)  # sign, exponent at 7 (8 bits), mantissa at 0 (7 bits)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def _bfloat16_encode(values: Values) -> Raw:
    with np.errstate(over="ignore"):
        bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to nearest, ties to even
    # Adding carries a NaN's mantissa into its sign, so NaN keeps its upper half, made quiet.
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(is_nan, (bits >> 16) | 0x40, rounded).astype("<u2")


def _bfloat16_decode(raw: Raw) -> NDArray[np.float32]:
    return (raw.astype("<u4") << 16).view("<f4")


def _bfloat16_finite(raw: Raw) -> NDArray[np.bool_]:
    return (raw & np.uint16(0x7F80)) != 0x7F80


DTYPES: dict[str, StorageDtype] = {
    "float16": _ieee("float16", h5t.IEEE_F16LE),
    "float32": _ieee("float32", h5t.IEEE_F32LE),
    "bfloat16": StorageDtype(
        name="bfloat16",
        raw=np.dtype("<u2"),
        hdf5=_bfloat16_hdf5,
        encode=_bfloat16_encode,
        decode=_bfloat16_decode,
        finite=_bfloat16_finite,
        largest=float.fromhex("0x1.fep127"),
    ),
}
