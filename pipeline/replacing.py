"""Files that appear under their name whole, or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import naming


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write a file that takes the name of `path` at the end. When something fails, or the program
    is stopped, it is removed, and what stood under the name stays as it was.

    The place is this process's own, so that of two that write the same file one wins and none is torn.

    Raises: OSError naming the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            yield part
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """As UTF-8. Raises: OSError naming the file."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
