"""Every numeric flag of every stage refuses what it can't be, in one line that names it."""

import dataclasses
import math
import signal
import sys
import types
import typing

import pytest

from pipeline import config as stages
from pipeline.checks import Checked, Range, flag
from pipeline.cli import main, parse
from pipeline.errors import ConfigError

STAGES = [
    c for c in vars(stages).values() if isinstance(c, type) and issubclass(c, Checked) and c is not Checked
]


NUMBERS = ["0", "-1", "1e300", "9" * 400, "9" * 5000, "nan", "-inf", "many", "", "1.5.2"]


def ranges() -> list[tuple[type[Checked], str, Range]]:
    found = []
    for stage in STAGES:
        for name, hint in typing.get_type_hints(stage, include_extras=True).items():
            hint = given(hint)
            inner = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else hint
            found += [(stage, name, m) for m in getattr(inner, "__metadata__", ()) if isinstance(m, Range)]
    return found


def given(hint: typing.Any) -> typing.Any:
    """The type of a field's value where it isn't None."""
    arguments = typing.get_args(hint)
    return arguments[0] if arguments[1:] == (types.NoneType,) else hint


def numeric_fields(stage: type[Checked]) -> set[str]:
    hints = {name: given(hint) for name, hint in typing.get_type_hints(stage).items()}
    return {n for n, h in hints.items() if h in (int, float) or typing.get_args(h)[:1] in ((int,), (float,))}


@pytest.mark.parametrize("stage", STAGES)
def test_every_numeric_field_has_a_range(stage: type[Checked]) -> None:
    assert numeric_fields(stage) == {name for s, name, _ in ranges() if s is stage}


@pytest.mark.parametrize(("stage", "name", "rule"), ranges())
def test_a_number_out_of_range_is_refused_by_flag(stage: type[Checked], name: str, rule: Range) -> None:
    is_tuple = isinstance(next(f for f in dataclasses.fields(stage) if f.name == name).default, tuple)
    wrong = [rule.low - 1, rule.high * 2 + 1, math.nan, math.inf] + ([rule.low] if rule.above else [])
    for value in wrong:
        with pytest.raises(ConfigError, match=rf"^{flag(name)}: expected a number .* found "):
            stage(**{name: (value,) if is_tuple else value})


@pytest.mark.parametrize(("stage", "name", "rule"), ranges())
def test_text_for_a_number_is_one_line_and_exit_2(
    stage: type[Checked], name: str, rule: Range, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(stage, "prog", [flag(name), "many"])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.count("\n") == 1
    assert flag(name) in said


@pytest.mark.fault("flag of a stage at 0, -1, huge, NaN, infinite or text")
@pytest.mark.parametrize(
    "value", ["0", "-1", "1e300", "9" * 400, "9" * 5000, "nan", "-inf", "many", "", "1.5.2"]
)
@pytest.mark.parametrize(("stage", "name", "rule"), ranges())
def test_the_command_line_refuses_by_flag_what_a_number_can_t_be(
    stage: type[Checked],
    name: str,
    rule: Range,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun: list[Checked] = []
    monkeypatch.setattr(sys.modules[__name__], "begin", begun.append)
    monkeypatch.setattr(sys, "argv", ["stage.py", f"{flag(name)}={value}"])
    handler = signal.getsignal(signal.SIGTERM)
    try:
        code = main(stage, f"{__name__}:begin")
    except SystemExit as stop:
        code = stop.code
    finally:
        signal.signal(signal.SIGTERM, handler)
    said = capsys.readouterr()
    if code == 0:
        assert value == "0"
        assert 0 in rule
        assert len(begun) == 1
    else:
        assert code == 2
        assert not begun
        assert said.err.startswith("stage.py: ")
        assert said.err.count("\n") == 1
        assert flag(name) in said.err
        assert len(said.err) < 500


def begin(config: Checked) -> None:
    """Stands for a stage."""
    raise AssertionError(config)


@pytest.mark.parametrize("stage", STAGES)
def test_a_configuration_survives_json(stage: type[Checked]) -> None:
    assert stage.from_json(stage().as_json()) == stage()


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown field 'learning_rate'"):
        stages.TrainConfig.from_json({"learning_rate": 1})


@pytest.mark.parametrize("views", ["", "mirrored", "augment", "augment:0", "augment:-1", "augment:x"])
def test_views_that_do_not_exist_are_refused(views: str) -> None:
    with pytest.raises(ConfigError, match="--views: expected plain, mirror or augment:K"):
        stages.ExtractConfig(views=views)


def test_caches_that_differ_in_their_images_have_different_folders_by_default() -> None:
    """Else the second extraction would be refused for what the user didn't name."""
    changes = [
        {},
        {"dataset": "scenes"},
        {"trunk": "alexnet"},
        {"views": "mirror"},
        {"image_px": 64},
        {"resize": "squash"},
        {"image_px": 64, "resize": "squash"},
    ]
    folders = {stages.ExtractConfig(**change).cache_dir for change in changes}
    assert len(folders) == len(changes)


def test_a_heads_own_settings_are_written_down_unless_others_are_asked_for() -> None:
    attention = stages.TrainConfig(head="recurrent-attention").resolved()
    assert (attention.lr, attention.batch) == ((1e-3,), 32)
    asked = stages.TrainConfig(head="recurrent-attention", lr=(0.5,), batch=7).resolved().as_json()
    assert (asked["lr"], asked["batch"]) == ([0.5], 7)
    usual = stages.TrainConfig().resolved()
    assert (usual.lr, usual.batch, usual.crop_cells) == ((0.1,), None, 3)
