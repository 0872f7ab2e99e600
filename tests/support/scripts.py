"""Scripts as a user calls them, but in one interpreter: importing is most of what five short ones take."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
END = "\x1e\n"
CALLS = f"""
import json, runpy, sys
for sys.argv in json.loads(sys.argv[1]):
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
    print(end={END!r}, flush=True)
"""


def run_scripts(folder: Path, commands: Sequence[Sequence[str]]) -> list[str]:
    """What each of some scripts of the repository prints, called one behind the other in a folder."""
    calls = [[str(ROOT / script), *flags] for script, *flags in commands]
    words = [sys.executable, "-c", CALLS, json.dumps(calls)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(END)[:-1]
