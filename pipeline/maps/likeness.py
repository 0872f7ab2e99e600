"""What two caches must have in common, for one head to read the maps of both."""

from typing import Any

OF_A_SPLIT = {"split", "image_sizes", "source", "views", "views_seed", "val_rows"}
"""Fields of a cache's identity in which maps of one kind may differ: those that say which images they are."""


def comparable(identity: dict[str, Any]) -> dict[str, Any]:
    """The fields of an identity that say how maps are made. View 0 of augment:K is the plain image."""
    views = "mirror" if identity.get("views") == "mirror" else "plain"
    return {k: v for k, v in identity.items() if k not in OF_A_SPLIT} | {"views": views}
