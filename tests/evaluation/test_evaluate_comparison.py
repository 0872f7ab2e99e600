"""Several runs evaluated at once: a table, paired intervals, and that only like is compared with like."""

import json
from pathlib import Path

import pytest
from support.evaluating import CLASSES, head, predictions, settings, two_heads

from pipeline.errors import RunError
from pipeline.evaluation.compare import compare
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
    assert found["runs"][0] == {"run": str(made / "linear"), **expected._asdict()}
    assert found["runs"][0]["difference"] == pytest.approx(100 * (linear.mean() - ten.mean()))
    assert found["runs"][1] == {"run": str(made / "ten"), "difference": 0.0, "low": 0.0, "high": 0.0}


def test_runs_on_other_images_are_not_compared(made: Path, tmp_path: Path) -> None:
    few = head(made / "cache", tmp_path / "few", classes=CLASSES[:3])
    with pytest.raises(RunError, match=r"few: can't be compared with .*ten, .*: 150 of them, here \d+"):
        evaluate(settings(made / "ten", few))


@pytest.mark.parametrize("field", ["paths", "classes"])
def test_the_first_image_that_differs_is_named(field: str, made: Path, tmp_path: Path) -> None:
    evaluate(settings(made / "ten"))
    kept = predictions(made / "ten")
    other = kept._replace(**{field: getattr(kept, field).copy()})
    row = 17 if field == "paths" else int(kept.labels.argmin())  # the first image of the first class
    getattr(other, field)[row if field == "paths" else 0] = "yak"
    with pytest.raises(RunError, match=rf"other images: number {row} is test/.*, here .*yak"):
        compare([made / "ten", tmp_path], [kept, other], tmp_path / "out.json", resamples=100, seed=0)


def test_a_whole_network_is_not_compared_with_heads(made: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": 1, "stage": "pretrain"}')
    with pytest.raises(RunError, match="a whole network can't be compared"):
        evaluate(settings(made / "ten", tmp_path))
