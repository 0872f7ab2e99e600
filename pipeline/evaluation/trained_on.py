"""Test images that a head has seen in training: known by the digests of their files, whatever their names."""

import numpy as np

from pipeline.errors import RunError
from pipeline.evaluation.logits import Subject
from pipeline.maps.contents import content_keys
from pipeline.runs.given import rows_given

ADVICE = "score other images, or add --allow-trained-on to score them all the same"


def trained_on(subject: Subject, allowed: bool) -> int | None:
    """How many of the test images were among those that the head was given, to train or to validate on; None
    where the training cache isn't there any more, of which a line is printed.

    Raises: RunError when there are some, or the whole split is the one for training, and that isn't allowed.
    """
    test, loaded, folder = subject.test, subject.loaded, subject.folder
    own = (test.key, test.images_digest) == (loaded.cache_key, loaded.cache_images)
    if not allowed and (own or test.identity.get("split") == "train"):
        raise RunError(f"{test.path}: expected a test split, found the split for training; {ADVICE}")
    if subject.training is None:
        print(
            f"not checked whether {folder} was trained on test images: its training cache isn't found; "
            "--cache can name its folder"
        )
        return None
    given = rows_given(loaded.config, subject.labels_sha256, subject.training)
    seen = np.isin(subject.contents, content_keys(subject.training, given))
    if count := int(seen.sum()):
        path = subject.paths[int(seen.argmax())]
        problem = (
            f"{count:,} of {len(seen):,} test images are among those that {folder} was trained or validated "
            f"on, {path} is the first"
        )
        if not allowed:
            raise RunError(f"{test.path}: {problem}; {ADVICE}")
        print(problem)
    return count
