"""Small files that are there whole or not at all, whoever writes them at the same time."""

import os
import re
from pathlib import Path

from cache import disk


def write_whole(path: Path, data: bytes) -> None:
    """Make a file under another name, and rename it. One of the same bytes stays. Raises: OSError."""
    _clear(path)
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return
    unfinished = path.with_name(f"{path.name}.{os.uname().nodename}-{os.getpid()}.part")
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


def _clear(path: Path) -> None:
    """Remove what a process of this machine began to write and can't finish, since it is gone."""
    ours = re.escape(f"{path.name}.{os.uname().nodename}-") + r"(\d+)\.part"
    for name in os.listdir(path.parent):
        if (found := re.fullmatch(ours, name)) and not _lives(int(found[1])):
            path.with_name(name).unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
