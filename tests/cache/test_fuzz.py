"""Changed files get an answer from the reader, soon, in little memory: a short run of fuzz_reader.py.

Answers go to a file: a pipe can be too small for them, and then a child waits for ever.
"""

import os
import tarfile
from pathlib import Path

import pytest
from support.fuzz_reader import ANSWER, PER_CHILD, bases, survives, survives_all
from support.tally import Tally

pytestmark = pytest.mark.fault


@pytest.mark.parametrize("files", [200, pytest.param(8_000, marks=pytest.mark.faults)])
def test_changed_files_get_an_answer(files: int, tmp_path: Path, tally: Tally) -> None:
    goods, (ready, tell) = bases(tmp_path), answer_file(tmp_path)
    for first in range(0, files, PER_CHILD):
        with tally("file changed at random (fuzz_reader.py)", PER_CHILD):
            assert survives(goods, range(first, first + PER_CHILD), tmp_path, tell), f"from seed {first}"
            answers = os.read(ready, ANSWER * PER_CHILD).decode()
            assert "can't read its structure" in answers
            assert "accepted" in answers
    os.close(ready)
    os.close(tell)


def test_the_corpus_gets_answers(tmp_path: Path, tally: Tally) -> None:
    """One file for each answer that a long run of fuzz_reader.py brought out."""
    with tarfile.open(Path(__file__).with_name("corpus.tar.xz")) as corpus:
        files = [corpus.extractfile(member).read() for member in corpus]  # type: ignore[union-attr]
    ready, tell = answer_file(tmp_path)
    with tally("file of the fuzzer's corpus", len(files)):
        assert survives_all(files, range(len(files)), tmp_path, tell)
        answers = os.read(ready, ANSWER * len(files))
        assert len(answers) == ANSWER * len(files)
        assert answers.count(b"accepted") < 3
    os.close(ready)
    os.close(tell)


def answer_file(folder: Path) -> tuple[int, int]:
    """Where to read answers, and where to write them."""
    path = folder / "answers"
    tell = os.open(path, os.O_WRONLY | os.O_CREAT)
    return os.open(path, os.O_RDONLY), tell
