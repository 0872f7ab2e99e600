"""Changed files get an answer from the reader, soon, in little memory: a short run of fuzz_reader.py."""

import os
from pathlib import Path

import pytest
from fuzz_reader import ANSWER, PER_CHILD, bases, survives
from tally import Tally

pytestmark = pytest.mark.fault


@pytest.mark.parametrize("files", [200, pytest.param(8_000, marks=pytest.mark.faults)])
def test_changed_files_get_an_answer(files: int, tmp_path: Path, tally: Tally) -> None:
    goods, (ready, tell) = bases(tmp_path), os.pipe()
    for first in range(0, files, PER_CHILD):
        with tally("file changed at random (fuzz_reader.py)", PER_CHILD):
            assert survives(goods, range(first, first + PER_CHILD), tmp_path, tell), f"from seed {first}"
            answers = os.read(ready, ANSWER * PER_CHILD).decode()
            assert "can't read its structure" in answers
            assert "accepted" in answers
    os.close(ready)
    os.close(tell)
