"""The scripts as a user meets them: exit codes, one line of error, quick help."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from support.toy import write_cache

from pipeline.files import write_json

ROOT = Path(__file__).parents[1]
SCRIPTS = [
    "extract_features.py",
    "train_head.py",
    "evaluate.py",
    "predict.py",
    "export_model.py",
    "pretrain_trunk.py",
]


def run(*words: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(str(ROOT / w) if w in SCRIPTS else str(w) for w in words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train_head.py", "--lr", "-1"], "train_head.py: --lr: expected a number above 0"),
        (
            ["train_head.py", "--learning-rate", "1"],
            "train_head.py: unknown flag --learning-rate; see train_head",
        ),
        (["train_head.py", "--head", "fulnet"], "train_head.py: --head: expected one of linear, fullnet, "),
        (["train_head.py", "--head", "fulnet"], ", found 'fulnet'; did you mean fullnet?\n"),
        (["train_head.py", "--cache", "nowhere"], "nowhere"),
        (
            ["extract_features.py", "--datset", "digits"],
            ": unknown flag --datset; did you mean --dataset?; see ",
        ),
        (["extract_features.py", "--dataset", "digit"], ", found 'digit'; did you mean digits?\n"),
        (["extract_features.py", "--trunk", "alexnet_cifar"], "; did you mean alexnet-cifar?\n"),
        (["extract_features.py", "--dataset", "folder:nowhere"], "nowhere"),
        (["extract_features.py", "--dataset", "csv:no  where"], "no  where: can't be read"),
        (["extract_features.py", "--dataset", "imagenet"], "--dataset: expected one of digits, cifar10"),
        (["extract_features.py", "--weights", "no.pth"], "no.pth: no such file"),
        (["evaluate.py", "--run", "nowhere"], "nowhere"),
        (["predict.py"], "predict.py: --images: expected photos, a folder of them or a pattern, found none"),
        (
            ["predict.py", "nowhere.jpg"],
            "nowhere.jpg: expected a photo, a folder or a pattern, found no such",
        ),
        (["predict.py", ".", "--run", "nowhere"], "expected images (.jpg"),
        (
            ["predict.py", "photos", "--bath", "3"],
            "predict.py: unknown flag --bath; did you mean --batch?; see",
        ),
        (["pretrain_trunk.py", "--trunk", "alexnet"], "--trunk: expected one of alexnet-cifar"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(words: list[str], message: str, tmp_path: Path) -> None:
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.fault("folder to write to that is a file, or in one")
@pytest.mark.parametrize(
    ("script", "flag"),
    [("extract_features.py", "--cache"), ("train_head.py", "--out"), ("pretrain_trunk.py", "--out")],
)
@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_folder_that_can_t_be_made_is_one_line(script: str, flag: str, where: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    write_cache(tmp_path / "cache")
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / "images" / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "images" / split / name / "0.png")
    words = ["--cache", "cache"] if script == "train_head.py" else ["--dataset", "folder:images"]
    done = run(script, *words, flag, where, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"{script}: file")


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stopped_stage_says_how_to_go_on(name: str, code: int, tmp_path: Path) -> None:
    """A stage that waits for ever, stopped by a signal."""
    script = tmp_path / "wait.py"
    script.write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pipeline.cli import main\nfrom pipeline.config import TrainConfig\n"
        "def stage(config):\n    print('waiting', flush=True)\n    time.sleep(60)\n"
        "sys.modules['wait'] = sys.modules['__main__']\n"
        "sys.exit(main(TrainConfig, 'wait:stage', again='say it again'))\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.1)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert said.strip() == "wait.py: interrupted; say it again"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_messages_are_one_line_in_any_encoding(encoding: str) -> None:
    command = [sys.executable, str(ROOT / "train_head.py"), "--epochs", "many"]
    done = subprocess.run(
        command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, check=False
    )
    said = done.stderr.decode(encoding)
    assert done.returncode == 2
    assert said == (
        "train_head.py: --epochs: expected a whole number from 1 to 1,000,000, found 'many'"
        "; see train_head.py --help\n"
    )


@pytest.mark.parametrize(
    "allocate",
    [
        "torch.empty(1 << 60, dtype=torch.uint8)",
        "numpy.empty(1 << 60, numpy.uint8)",
        "__import__('mmap').mmap(-1, 1 << 60)",
        "raise torch.AcceleratorError('CUDA error: out of memory\\nSearch for cudaErrorMemoryAllocation')",
    ],
)
def test_memory_that_runs_out_is_one_line(allocate: str, tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(f"import numpy, torch\ndef begin(config): {allocate}\n")
    program = (
        "import sys; from pipeline.cli import main; from pipeline.config import TrainConfig\n"
        "sys.path.insert(0, sys.argv.pop()); sys.exit(main(TrainConfig, 'stage:begin'))"
    )
    done = run("-c", program, tmp_path)
    assert done.returncode == 2
    advice = "give a smaller --batch, then run the same command again"
    assert done.stderr == f"-c: out of memory; {advice}\n"


NOISY = """
import sys, warnings
from pathlib import Path
from pipeline.cli import main
from pipeline.config import EvaluateConfig, TrainConfig
from pipeline.progress import over, say

def stage(config):
    print("first")
    for _ in over(range(2000), "work", "steps"):
        print("a line that nobody may want, " * 3)
        print("a line of a library", file=sys.stderr)
        warnings.warn("a warning")
    say("last")
    opened = open("opened", "w")
    assert opened.fileno() > 2, "what is printed would go into this file"
    Path("done").touch()
    return Path("done")

sys.modules["noisy"] = sys.modules["__main__"]
sys.exit(main(globals()[sys.argv.pop()], "noisy:stage"))
"""
CLOSED = ["2>&-", ">&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full", ">/dev/full 2>&1", "| head -1"]


@pytest.mark.fault("standard output or error that is closed, full or left by its reader")
@pytest.mark.parametrize("redirection", CLOSED)
def test_output_that_can_t_be_written_stops_no_stage(redirection: str, tmp_path: Path) -> None:
    done = redirected(redirection, "TrainConfig", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "done").exists()
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


@pytest.mark.parametrize("redirection", CLOSED)
def test_only_a_table_that_a_full_disk_lacks_is_told_and_not_done(redirection: str, tmp_path: Path) -> None:
    done = redirected(redirection, "EvaluateConfig", tmp_path)
    assert (tmp_path / "done").exists()
    is_full = ">/dev/full" in redirection.split()
    assert done.returncode == (2 if is_full else 0)
    told = "noisy.py: standard output: No space left on device; what should be there is beside done\n"
    assert done.stderr.endswith(told) == (redirection == ">/dev/full")


def redirected(redirection: str, config: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run NOISY in a folder, in a shell that sends its output elsewhere."""
    (folder / "noisy.py").write_text(NOISY)
    line = f"set -o pipefail; {sys.executable} noisy.py {config} {redirection}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = ["bash", "-c", line]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False, timeout=60
    )


@pytest.mark.fault("standard output or error that is closed, full or left by its reader")
def test_real_stages_and_their_processes_need_no_output(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_cache(tmp_path / "cache", split=split)
    train = "train_head.py --cache cache --epochs 2 --device cpu --head linear knn --jobs 2 --out heads"
    scripts = [train, "evaluate.py --run heads/linear --device cpu"]
    line = " && ".join(f"{sys.executable} {ROOT}/{script} >&- 2>/dev/full" for script in scripts)
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, check=False, timeout=120)
    assert done.returncode == 0
    assert (tmp_path / "heads/linear/eval/metrics.json").exists()


def test_a_process_without_streams_has_none_that_fail() -> None:
    """As under pythonw: the streams are None from the start."""
    program = (
        "import sys; sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None\n"
        "from pipeline.progress import *\n"
        "for _ in over(range(3), 'work', 'steps'): pass\n"
        "say('line'); secure_output(); print('seen', file=sys.stderr)"
    )
    assert run("-c", program).stderr == "seen\n"


@pytest.mark.parametrize("found", ["abc", "", "2.5"])
def test_a_number_of_cores_that_is_none_is_one_line(found: str, tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(
        "from pipeline.engines.processes import cores\ndef begin(config): cores()\n"
    )
    program = (
        "import sys; from pipeline.cli import main; from pipeline.config import TrainConfig\n"
        f"sys.path.insert(0, {str(tmp_path)!r}); sys.exit(main(TrainConfig, 'stage:begin'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"LOKY_MAX_CPU_COUNT": found},
        check=False,
    )
    expected = f"-c: LOKY_MAX_CPU_COUNT: expected a whole number, found {found!r}; unset it\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_a_backend_that_is_none_makes_no_difference_to_pictures(tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text("def begin(config): import matplotlib\n")
    program = (
        "import sys; from pipeline.cli import main; from pipeline.config import TrainConfig\n"
        f"sys.path.insert(0, {str(tmp_path)!r}); sys.exit(main(TrainConfig, 'stage:begin'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"MPLBACKEND": "mistyped"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("columns", ["1", "2", "3"])
def test_help_is_shown_however_narrow_the_terminal(columns: str) -> None:
    command = [sys.executable, str(ROOT / "train_head.py"), "--help"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"COLUMNS": columns}, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_rename_that_fails_names_the_file_that_was_to_be(tmp_path: Path) -> None:
    (tmp_path / "out.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_json(tmp_path / "out.json", {})
    assert caught.value.filename == str(tmp_path / "out.json")


def tencrop(*words: str) -> subprocess.CompletedProcess[str]:
    return run("-c", "import sys; from pipeline.cli import tencrop; sys.exit(tencrop())", *words)


def test_tencrop_lists_its_commands() -> None:
    done = run("-X", "importtime", "-c", "from pipeline.cli import tencrop; tencrop()", "--help")
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == [
        "run",
        "extract",
        "train",
        "evaluate",
        "predict",
        "export",
        "report",
        "compare-trunks",
        "pretrain",
        "runs",
        "cache",
        "where",
    ]
    assert "numpy" not in done.stderr


@pytest.mark.parametrize(
    ("script", "command"),
    list(zip(SCRIPTS, ["extract", "train", "evaluate", "predict", "export", "pretrain"], strict=True)),
)
@pytest.mark.parametrize("flags", [["--help"], ["--bath", "3"], ["--device", "gpu"]])
def test_a_command_of_tencrop_is_the_script(script: str, command: str, flags: list[str]) -> None:
    by_script, by_command = run(script, *flags), tencrop(command, *flags)
    assert by_command.returncode == by_script.returncode
    for ours, theirs in [(by_command.stdout, by_script.stdout), (by_command.stderr, by_script.stderr)]:
        assert ours == theirs.replace(f"usage: {script}", f"usage: tencrop {command}").replace(
            f"{script}: ", f"tencrop {command}: "
        ).replace(f"see {script}", f"see tencrop {command}")


def test_where_says_what_a_command_would_write() -> None:
    done = tencrop("where", "train", "--cache=~/c/photos", "--head", "knn")
    assert (done.stdout, done.returncode) == ("artifacts/runs/photos-knn\n", 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["extrct"],
            "tencrop: expected one of run, extract, train, evaluate, ",
        ),
        (["extrct"], "found 'extrct'; did you mean extract?; see tencrop --help\n"),
        (["where"], "tencrop where: expected one of extract, train, pretrain, found ''\n"),
        (["where", "train", "--lr", "x"], "tencrop where train: --lr: expected a number"),
        ([], "tencrop: expected a command; see tencrop --help\n"),
        (["cache", "info", "none.h5"], "tencrop cache: none.h5: can't be opened"),
    ],
)
def test_a_mistake_in_a_command_is_one_line_and_exit_2(words: list[str], message: str) -> None:
    done = tencrop(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
