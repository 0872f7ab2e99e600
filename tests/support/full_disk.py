"""Extract onto a tmpfs that is full at five levels. Run under `unshare -rm` by test_full_disk.py."""

import os
import subprocess
import sys
from pathlib import Path

from cache import CacheError, CacheWriter, FeatureCache
from support.samples import extract, header

folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=True)
made = header(2048, map_shape=(2, 8, 8))  # nearly all of it features: space for them is taken before
older = extract(folder / "older.h5", header(3))
for free_kb in (0, 4, 40, 200, 400):
    filler = folder / "filler"
    with filler.open("wb") as file:
        available = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        os.posix_fallocate(file.fileno(), 0, available - free_kb * 1024)
    path = folder / "train.h5"
    try:
        extract(path, made)
    except CacheError as error:
        if "No space left on device; free some space" in str(error) and "\n" not in str(error):
            print("refused")
    FeatureCache(older).verify()
    if sorted(os.listdir(folder)) != ["filler", "older.h5"]:
        sys.exit(f"left behind: {os.listdir(folder)}")
    filler.unlink()
if CacheWriter.status(folder / "train.h5", made) != "absent":
    sys.exit("something was published")
extract(folder / "train.h5", header(3))
