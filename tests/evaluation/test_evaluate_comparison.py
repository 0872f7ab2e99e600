"""Several runs evaluated at once: a table, paired intervals, and that only like is compared with like."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.evaluating import CLASSES, head, predictions, settings, two_heads, write_split

from cache import Paths
from pipeline.errors import RunError
from pipeline.evaluation.compare import in_order
from pipeline.evaluation.scored import Predictions
from pipeline.evaluation.stage import evaluate
from pipeline.metrics.bootstrap import top1_interval


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache and two heads on it: ten, and linear."""
    return two_heads(tmp_path_factory.mktemp("made"))


def test_the_table_has_a_line_per_run_and_the_paths_follow(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(settings(made / "ten", made / "linear", out=str(tmp_path / "c.json")))
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("run "))
    assert lines[start].split() == ["run", "top-1", "%", "top-5", "%", "NLL", "ECE", "%"]
    for line, run in zip(lines[start + 1 :], ("ten", "linear"), strict=False):
        found = json.loads((made / run / "eval/metrics.json").read_text())
        numbers = [
            f"{found['top1']:.2f}",
            f"{found['top5']:.2f}",
            f"{found['nll']:.4f}",
            f"{found['ece']:.2f}",
        ]
        assert line.split() == [str(made / run), *numbers]
    assert all(Path(line).is_file() for line in lines[-7:])


def test_a_comparison_is_the_top1_interval_of_the_kept_predictions(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep/comparison.json"
    evaluate(settings(made / "ten", made / "linear", made / "ten", out=str(out), seed=3))
    ten, linear = (predictions(made / name).correct for name in ("ten", "linear"))
    found = json.loads(out.read_text())
    expected = top1_interval(ten, linear, resamples=500, seed=3)
    assert (found["baseline"], found["images"]) == (str(made / "ten"), 150)
    assert [run["run"] for run in found["runs"]] == [str(made / name) for name in ("ten", "linear", "ten")]
    assert found["runs"][1].items() >= expected._asdict().items()
    assert found["runs"][1]["difference"] == pytest.approx(100 * (linear.mean() - ten.mean()))
    assert [run["score"] for run in found["runs"][:2]] == [100 * ten.mean(), 100 * linear.mean()]
    assert found["runs"][2].items() >= {"difference": 0.0, "low": 0.0, "high": 0.0}.items()


def test_runs_on_other_images_are_not_compared(made: Path, tmp_path: Path) -> None:
    few = head(made / "cache", tmp_path / "few", classes=CLASSES[:3])
    with pytest.raises(RunError, match=r"few: can't be compared with .*ten, .*: 150 of them, here \d+"):
        evaluate(settings(made / "ten", few))


@pytest.fixture
def kept(made: Path) -> Predictions:
    evaluate(settings(made / "ten"))
    return predictions(made / "ten")


def test_the_first_image_of_other_contents_or_label_is_named(kept: Predictions) -> None:
    """Whatever it is called."""
    contents = kept.contents.copy()
    contents[17] = b"x" * 16
    there = re.escape(f"number 17 is {kept.paths[17]} ({kept.classes[kept.labels[17]]}), here ")
    with pytest.raises(
        RunError, match=f"^b: can't be .* a, .* other images: {there}there is none of its cont"
    ):
        in_order(Path("a"), kept, Path("b"), kept._replace(contents=contents))
    labels = kept.labels.copy()
    labels[17] = (labels[17] + 1) % len(CLASSES)
    with pytest.raises(RunError, match=rf"{there}it is test/.*/17\.png \({CLASSES[labels[17]]}\)$"):
        in_order(Path("a"), kept, Path("b"), kept._replace(labels=labels))
    twice = kept.contents.copy()
    twice[3] = twice[np.flatnonzero(kept.labels == kept.labels[3])[0]]
    with pytest.raises(RunError, match="number 3 is "):
        in_order(Path("a"), kept, Path("b"), kept._replace(contents=twice))


def test_images_are_paired_by_contents_whatever_their_names_and_order(kept: Predictions) -> None:
    order = np.random.default_rng(0).permutation(len(kept.labels))
    classes, labels = kept.classes[::-1], len(CLASSES) - 1 - kept.labels[order]
    names = Paths(f"elsewhere/{row}.png" for row in order)
    moved = Predictions(kept.logits[order][:, ::-1], labels, names, classes, kept.contents[order])
    found = in_order(Path("a"), kept, Path("b"), moved)
    assert list(found.paths) == [f"elsewhere/{row}.png" for row in range(len(order))]
    np.testing.assert_array_equal(found.logits, kept.logits[:, ::-1])
    assert found.correct.tolist() == kept.correct.tolist()


def test_pictures_of_the_same_names_but_other_contents_are_not_the_same_images(
    made: Path, tmp_path: Path
) -> None:
    cache = Path(shutil.copytree(made / "cache", tmp_path / "cache"))
    run = head(cache, tmp_path / "run")
    (cache / "test.h5").unlink()
    write_split(cache, "test", 150, image="another")
    with pytest.raises(RunError, match=r"run: can't be compared with .*ten, .* other images: number 0 is "):
        evaluate(settings(made / "ten", run))


def test_comparisons_go_to_files_of_their_own_unless_asked(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluate(settings(made / "ten", made / "linear"))
    (first,) = Path("artifacts/comparisons").iterdir()
    assert re.fullmatch(r"ten-linear-[0-9a-f]{8}\.json", first.name)
    before = first.read_bytes()
    evaluate(settings(made / "linear", made / "ten"))
    others = head(made / "cache", tmp_path / "other/ten"), head(made / "cache", tmp_path / "other/linear")
    evaluate(settings(*others))  # of the same names
    assert len(list(Path("artifacts/comparisons").iterdir())) == 3
    assert first.read_bytes() == before
    evaluate(settings(made / "ten", made / "linear"))
    assert len(list(Path("artifacts/comparisons").iterdir())) == 3


def test_a_single_run_gets_a_file_of_the_same_shape_as_several(made: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    evaluate(settings(made / "ten", out=str(one), resamples=500))
    evaluate(settings(made / "ten", made / "linear", out=str(two)))
    alone, several = (json.loads(path.read_text()) for path in (one, two))
    assert alone == {**several, "runs": several["runs"][:1]}
    assert alone["runs"][0]["score"] == json.loads((made / "ten/eval/metrics.json").read_text())["top1"]
    assert {frozenset(run) for run in several["runs"]} == {frozenset(alone["runs"][0])}


def test_a_whole_network_is_not_compared_with_heads(made: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": 1, "stage": "pretrain"}')
    with pytest.raises(RunError, match="a whole network can't be compared"):
        evaluate(settings(made / "ten", tmp_path))
