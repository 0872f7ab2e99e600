"""Small files that are there whole or not at all, whoever writes them at the same time."""

import os
import re
from pathlib import Path

from cache import disk


def write_whole(path: Path, data: bytes) -> None:
    """Make a file under another name, and rename it. One of the same bytes stays. Raises: OSError."""
    unfinished = unfinished_path(path)
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return
    fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        disk.write_all(fd, data, 0)
        disk.sync(fd)
        disk.rename(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def unfinished_path(path: Path) -> Path:
    """The name under which this process makes a file, other than anybody else's. Clears what others left."""
    clear_unfinished(path)
    return path.with_name(f"{_ours(path)}{os.getpid()}.part")


def clear_unfinished(path: Path) -> None:
    """Remove what processes of this machine began to write and can't finish, since they are gone."""
    ours = re.escape(_ours(path)) + r"(\d+)\.part"
    for name in os.listdir(path.parent):
        if (found := re.fullmatch(ours, name)) and not lives(int(found[1])):
            path.with_name(name).unlink(missing_ok=True)


def _ours(path: Path) -> str:
    return f"{path.name}.{os.uname().nodename}-"


def lives(process: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
