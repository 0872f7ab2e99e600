"""What is said before heads train: what they take, and what to choose instead of one that is too large."""

import re
from pathlib import Path

import pytest
from support.toy import write_cache

from pipeline.cli import parse
from pipeline.config import SweepConfig
from pipeline.training.groups import _quietly
from pipeline.training.sweep import sweep

WARNED = re.compile(
    r"^warning: (\S+) has ([\d,]+) weights on maps of \d+×\d+×\d+, ([\d,]+) for each of 81 .* with (.*)$",
    re.M,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 images, of which 81 to train on: a head may have 8,100 weights."""
    return write_cache(tmp_path_factory.mktemp("cache"), shape=(16, 7, 7))


def said(flags: list[str], cache: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    common = ["--cache", str(cache), "--out", str(out), "--device", "cpu"]
    common += [] if {"knn", "logistic"} & {*flags} else ["--epochs", "1"]
    capsys.readouterr()
    sweep(parse(SweepConfig, "train_head.py", [*common, *flags]))
    return capsys.readouterr().out


def grouped(flags: str) -> dict[str, list[str]]:
    """Flags and their values."""
    found: dict[str, list[str]] = {}
    for word in flags.split():
        if word.startswith("--"):
            found[word] = []
        else:
            [*found.values()][-1].append(word)
    return found


@pytest.mark.parametrize(
    ("flags", "advice"),
    [
        ("--hidden 1024", "--hidden 16, or --head gap logistic without --hidden"),
        (
            "--hidden 64 --dropout 0.5",
            "--hidden 16, or --crop-cells 2, or --head gap logistic without --dropout and --hidden",
        ),
        ("--hidden 512 64", "--hidden 16 16, or --head gap logistic without --hidden"),
        (
            "--crops full --hidden 64",
            "--hidden 8, or --crops ten --crop-cells 2, or --head gap logistic without --hidden",
        ),
        ("--crops five", "--hidden 16, or --head gap logistic"),
        (
            "--head recurrent-attention --hidden 64 --steps 2",
            "--hidden 16, or --head gap logistic without --hidden and --steps",
        ),
    ],
)
def test_advice_against_too_many_weights_is_followed_without_another_warning(
    flags: str, advice: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warned = WARNED.search(said(flags.split(), cache, tmp_path / "large", capsys))
    assert warned is not None
    weights, share = (int(number.replace(",", "")) for number in warned.group(2, 3))
    assert round(weights / 81) == share > 100
    assert warned[4] == advice
    for k, each in enumerate(advice.split(", or ")):
        instead, _, left_out = each.partition(" without ")
        given = grouped(flags)
        for name in re.findall(r"--\S+", left_out):
            given.pop(name)
        given |= grouped(instead)
        words = [word for name, values in given.items() for word in (name, *values)]
        assert "warning" not in said(words, cache, tmp_path / str(k), capsys)


@pytest.mark.parametrize("head", ["linear", "gap", "csra", "knn", "logistic"])
def test_small_and_computed_heads_are_not_warned_of(
    head: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "warning" not in said(["--head", head], cache, tmp_path / "run", capsys)


def test_a_pooled_head_with_too_many_weights_is_compared_with_a_computed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = write_cache(tmp_path / "cache", shape=(3000, 1, 1))
    warned = WARNED.search(said(["--head", "linear"], cache, tmp_path / "run", capsys))
    assert warned is not None
    assert warned[4] == "--head logistic and none of the flags that it doesn't read"


def test_of_what_a_process_says_its_warnings_come_back(cache: Path, tmp_path: Path) -> None:
    out, flags = str(tmp_path / "run"), ["--epochs", "1", "--device", "cpu"]
    (group,) = parse(SweepConfig, "train_head.py", ["--cache", str(cache), "--out", out, *flags]).groups()
    error, lines = _quietly(group)
    assert error is None
    assert WARNED.findall("\n".join(lines))[0][0] == "fullnet"
    assert len(lines) == 1


@pytest.mark.parametrize(("optimizer", "states"), [("sgd", 1), ("adam", 2)])
def test_what_heads_take_is_what_they_take(
    optimizer: str, states: int, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--seed", "0", "1", "--optimizer", optimizer, "--hidden", "256"]
    found = re.search(
        r"about ([\d,]+) kB of memory, .* disk ([\d,]+) kB, and ([\d,]+) kB for a checkpoint",
        said(flags, cache, tmp_path / "run", capsys),
    )
    assert found is not None
    memory, disk, checkpoint = (1e3 * int(number.replace(",", "")) for number in found.groups())
    stored = sum(path.stat().st_size for path in (tmp_path / "run").glob("*/head.safetensors"))
    assert disk == pytest.approx(stored, rel=0.02)
    assert memory == pytest.approx((3 + states) * stored, rel=0.02)
    assert checkpoint == pytest.approx((2 + states) * stored, rel=0.02)
