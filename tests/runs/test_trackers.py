"""`train_head.py --log`: what TensorBoard and MLflow read back is what metrics.jsonl and summary.json say."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from support import toy
from support.evaluating import settings
from support.trained import assert_same, lines

from pipeline.cli import COMMANDS, main
from pipeline.config import SweepConfig
from pipeline.errors import ConfigError
from pipeline.evaluation.stage import evaluate
from pipeline.files import read_json
from pipeline.runs.trackers import TRACKERS
from pipeline.runs.tracking import track_test
from pipeline.training import epochs
from pipeline.training.stage import train
from pipeline.training.sweep import sweep

RATES = (0.1, 0.02)
Curves = dict[str, list[tuple[int, float]]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = toy.write_cache(tmp_path_factory.mktemp("made") / "cache")
    return toy.write_cache(folder, split="test")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MLflow's default store is in the working directory, and nothing may be read from a user's."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def small(cache: Path, out: Path, **changed: Any) -> dict[str, Any]:
    given = {"cache": str(cache), "out": str(out), "epochs": 3, "batch": 16, "lr": RATES, "device": "cpu"}
    return {**given, "head": ("linear",), **changed}


def read_tensorboard(run: Path) -> tuple[Curves, dict[str, Any], str]:
    """Curves and settings as TensorBoard reads them."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import plugin_data_pb2

    found = accumulators.EventAccumulator(str(run / "tensorboard")).Reload()
    content = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    info = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info  # pyright: ignore
    given = {name: getattr(value, value.WhichOneof("kind")) for name, value in info.hparams.items()}
    curves = {tag: [(p.step, p.value) for p in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    return curves, given, "FINISHED"


def read_mlflow(run: Path) -> tuple[Curves, dict[str, Any], str]:
    mlflow = pytest.importorskip("mlflow", reason="mlflow isn't installed")
    client = mlflow.MlflowClient(Path("mlruns").absolute().as_uri())
    found = client.get_run(read_json(run / "mlflow.json")["run_id"])
    histories = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    curves = {name: [(one.step, one.value) for one in points] for name, points in histories.items()}
    runs = client.search_runs([found.info.experiment_id])
    assert [one.info.run_name for one in runs].count(str(run)) == 1
    return curves, found.data.params, found.info.status


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow}


def check(run: Path, curves: Curves) -> None:
    """Each epoch once, and the best score where it was."""
    wanted, summary = lines(run), read_json(run / "summary.json")
    for name in ("train_loss", "val_loss", "val_top1"):
        assert [step for step, _ in curves[name]] == list(range(1, len(wanted) + 1))
        assert [value for _, value in curves[name]] == pytest.approx(
            [line[name] for line in wanted], rel=1e-6
        )
    best = [(summary["best_epoch"], pytest.approx(summary["val_top1"], rel=1e-6))]
    assert curves["best_val_top1"] == best


def test_there_is_a_reader_for_every_tracker() -> None:
    assert READERS.keys() == TRACKERS.keys()


@pytest.mark.parametrize("name", TRACKERS)
def test_each_head_is_a_run_with_its_settings_curves_and_scores(cache: Path, here: Path, name: str) -> None:
    out = sweep(SweepConfig(**small(cache, here / "run", head=("linear", "knn"), log=name)))
    for rate in RATES:
        run = out / f"linear/lr{rate}-wd0.0005-seed0"
        curves, given, state = READERS[name](run)
        check(run, curves)
        assert (float(given["lr"]), given["head"], given["run"]) == (rate, "linear", str(run))
        assert state == "FINISHED"
    curves, given, _ = READERS[name](out / "knn")
    assert given["head"] == "knn"
    assert curves["best_val_top1"][0][1] == pytest.approx(read_json(out / "knn/summary.json")["val_top1"])
    assert len(curves["val_top1"]) == len((out / "knn/metrics.jsonl").read_text().splitlines())
    scores = read_json(evaluate(settings(run := out / "linear/lr0.1-wd0.0005-seed0")))
    track_test(run, name, scores)  # as by another evaluation
    curves, _, state = READERS[name](run)
    check(run, curves)
    assert [value for _, value in curves["test_top1"]] == pytest.approx([scores["top1"]])
    assert state == "FINISHED"


@pytest.mark.parametrize("name", TRACKERS)
def test_a_run_that_goes_on_has_every_epoch_once(
    cache: Path, here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    given = toy.config(cache, here / "run", head="linear", epochs=5, hidden=(512,), log=name)

    def stops(self: epochs.Checkpoint) -> None:
        if self.trainer.done == (2, 0):
            self.trainer.save(self.path)
        if self.trainer.done == (4, 0):  # two epochs later
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(epochs.Checkpoint, "save_if_due", stops)
        with pytest.raises(KeyboardInterrupt):
            train(given)
    curves, _, state = READERS[name](here / "run")
    assert len(curves["train_loss"]) == 4
    assert name != "mlflow" or state == "KILLED"
    run = train(
        toy.config(cache, here / "run", head="linear", epochs=5, hidden=(512,), log=name, resume=True)
    )
    curves, _, state = READERS[name](run)
    check(run, curves)
    assert state == "FINISHED"


@pytest.mark.parametrize("name", TRACKERS)
def test_a_package_that_is_missing_is_one_line_before_training(
    cache: Path, here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, TRACKERS[name].target.partition(":")[0], raising=False)
    for more in ({}, {"head": ("linear", "knn")}):
        with pytest.raises(ConfigError) as error:
            sweep(SweepConfig(**small(cache, here / "run", log=name, **more)))
        assert f"--log {name}: needs the package {name}" in str(error.value)
        assert f'pip install "ten-crop-cache[{name}]"' in str(error.value)
    assert not (here / "run").exists()


FULL = """
class Full:
    def __init__(self, folder):
        self.folder = folder

    def start(self, config):
        pass

    def log(self, step, metrics):
        if step == 2:
            raise OSError(28, "No space left on device", str(self.folder))

    def end(self, state):
        raise AssertionError("after it failed")
"""


def test_a_tracker_that_fails_is_one_line_and_costs_nothing(
    cache: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sweep(SweepConfig(**small(cache, here / "whole")))
    (here / "full.py").write_text(FULL)
    out = sweep(SweepConfig(**small(cache, here / "run", log=f"{here}/full.py:Full")))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: --log")]
    assert len(said) == 1
    assert "No space left on device" in said[0]
    (here / "third").mkdir()
    (here / "third/tensorboard").write_text("in the way")
    third = sweep(SweepConfig(**small(cache, here / "third", log="tensorboard", lr=(0.1,))))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: --log")]
    assert len(said) == 1
    assert "third/tensorboard: File exists" in said[0]
    assert (third / "summary.json").exists()
    for rate in RATES:
        assert_same(out / f"lr{rate}-wd0.0005-seed0", whole / f"lr{rate}-wd0.0005-seed0")


WANDB = """
import json

class Run:
    def __init__(self, **given):
        self.given = given
        self.say("init", **given)

    def say(self, what, **facts):
        with open(OUT, "a") as file:
            file.write(json.dumps({"what": what, "id": self.given["id"], **facts}) + "\\n")

    def log(self, metrics, step):
        self.say("log", step=step, metrics=metrics)

    def finish(self, exit_code):
        self.say("finish", exit_code=int(exit_code))

init = Run
"""


def test_the_recipe_for_another_tracker_is_true(
    cache: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[2] / "docs/report.md").read_text()
    recipe = next(code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "wandb" in code)
    (here / "wandb_log.py").write_text(recipe)
    (here / "wandb.py").write_text(WANDB.replace("OUT", repr(str(here / "said.jsonl"))))
    monkeypatch.setattr(sys, "argv", ["train_head.py", "--cache", str(cache), "--head", "linear"])
    sys.argv += ["--epochs", "3", "--lr", "0.1", "--out", "run", "--device", "cpu"]
    sys.argv += ["--log", "wandb_log.py:Heads"]
    assert main(*COMMANDS["train"]) == 0
    monkeypatch.delitem(sys.modules, "wandb")
    said = [json.loads(line) for line in (here / "said.jsonl").read_text().splitlines()]
    assert [line["what"] for line in said] == ["init", *["log"] * 4, "finish"]
    assert said[0]["config"]["lr"] == 0.1
    assert [line["metrics"]["train_loss"] for line in said[1:4]] == [
        one["train_loss"] for one in lines(here / "run")
    ]
    assert said[-1] == {"what": "finish", "id": "run", "exit_code": 0}
    track_test(here / "run", "wandb_log.py:Heads", {"top1": 99.0})  # no code that a run folder names
    assert len((here / "said.jsonl").read_text().splitlines()) == len(said)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tensorbord", "did you mean tensorboard"),
        ("nowhere.py:Heads", "nowhere.py: can't be imported: FileNotFoundError"),
        ("json:Heads", "json has no class 'Heads'"),
    ],
)
def test_another_name_is_refused_before_training(cache: Path, here: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        sweep(SweepConfig(**small(cache, here / "run", log=name)))
    assert not (here / "run").exists()
