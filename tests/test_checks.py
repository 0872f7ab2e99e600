"""Every field of every stage refuses what it can't be, in one line: Python names the field, the command line
its flag."""

import dataclasses
import inspect
import math
import re
import signal
import sys
import types
import typing
from typing import Annotated, Any, Literal

import pytest

from experiments.attention.config import AttentionConfig
from experiments.crops.config import CropsConfig
from pipeline import config as stages
from pipeline.checks import AnyPath, Checked, OneOf, Range, kinds, texts
from pipeline.cli import main, parse
from pipeline.config import EvaluateConfig
from pipeline.datasets import name_of_dataset
from pipeline.errors import ConfigError
from pipeline.wording import flag

STAGES = [getattr(stages, name) for name in stages.__all__] + [CropsConfig, AttentionConfig]
STAGES.sort(key=lambda stage: stage is stages.RunConfig)  # the last, since it inherits nearly all it has


def element(hint: Any) -> Any:
    """The type of one value: X of `X`, `X | None` and `tuple[X, ...]`, with its annotation."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType, tuple):
        return element(typing.get_args(hint)[0])
    return hint


def elements(stage: type[Checked]) -> dict[str, Any]:
    return {n: element(h) for n, h in typing.get_type_hints(stage, include_extras=True).items()}


def fields_once() -> list[tuple[type[Checked], str]]:
    """The fields of all stages; those that several inherit from the same class in the first of them."""
    found: dict[tuple[type, str], type[Checked]] = {}
    for stage in STAGES:
        for field in dataclasses.fields(stage):
            owner = next(c for c in stage.__mro__ if field.name in vars(c).get("__annotations__", ()))
            found.setdefault((owner, field.name), stage)
    return [(stage, name) for (_, name), stage in found.items()]


def ranges() -> list[tuple[type[Checked], str, Range]]:
    found = []
    for stage, name in fields_once():
        hint = elements(stage)[name]
        found += [(stage, name, m) for m in getattr(hint, "__metadata__", ()) if isinstance(m, Range)]
    return found


def default(stage: type[Checked], name: str) -> Any:
    return next(f.default for f in dataclasses.fields(stage) if f.name == name)


def is_path(stage: type[Checked], name: str) -> bool:
    rule = kinds(stage)[name].rule
    return isinstance(rule, AnyPath) or (isinstance(rule, OneOf) and rule.paths)


def takes_several(stage: type[Checked], name: str) -> bool:
    return "tuple" in str(typing.get_type_hints(stage)[name])


@pytest.mark.parametrize("stage", STAGES)
def test_every_numeric_field_has_a_range(stage: type[Checked]) -> None:
    hints = {name: elements(stage)[name] for s, name in fields_once() if s is stage}
    numeric = {n for n, h in hints.items() if getattr(h, "__origin__", h) in (int, float)}
    assert numeric == {name for s, name, _ in ranges() if s is stage}


@pytest.mark.parametrize(("stage", "name", "rule"), ranges())
def test_a_number_out_of_range_is_refused_by_field(stage: type[Checked], name: str, rule: Range) -> None:
    is_int = getattr(elements(stage)[name], "__origin__", None) is int
    wrong = [rule.low - 1, rule.high * 2 + 1, math.nan, math.inf] + ([rule.low] if rule.above else [])
    for value in wrong:
        with pytest.raises(ConfigError, match=r"expected a (whole )?number .* found ") as caught:
            stage(**{name: (value,) if takes_several(stage, name) else value})
        assert str(caught.value).startswith(f"{stage.__name__}.{name}: expected a ")
        assert ("a whole number" in str(caught.value)) == is_int


@pytest.mark.fault("field of a configuration of another type")
@pytest.mark.parametrize("wrong", ["many", None, object(), {"a": 1}, ["b"], (b"c",), ((1,),), True, 1.5, 1])
@pytest.mark.parametrize(("stage", "name"), fields_once())
def test_a_value_of_another_type_is_refused_by_field(stage: type[Checked], name: str, wrong: object) -> None:
    """Only a value of the type that the field declares is taken, and a whole number where a number is."""
    declared = getattr(elements(stage)[name], "__origin__", elements(stage)[name])
    types = {float: (int, float), Literal: (str,)}.get(declared, (declared,))
    if wrong is None is default(stage, name):
        return
    if (
        not takes_several(stage, name)
        and isinstance(wrong, types)
        and (type(wrong) is bool) == (declared is bool)
    ):
        return
    with pytest.raises(ConfigError) as caught:
        stage(**{name: wrong})
    assert str(caught.value).startswith(f"{stage.__name__}.{name}: expected ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_single_value_where_several_are_taken_is_refused_with_the_tuple_to_write() -> None:
    for fields, advice in [
        ({"head": "linear"}, r"found 'linear'; give \('linear',\)"),
        ({"lr": 0.1}, r"found 0\.1; give \(0\.1,\)"),
        ({"lr": [0.1, 0.3]}, r"found \[0\.1, 0\.3\]$"),
        ({"lr": ("fast",)}, r"a number above 0, at most 1,000, found 'fast'$"),
    ]:
        with pytest.raises(ConfigError, match=rf"^SweepConfig\.{next(iter(fields))}: expected .*{advice}"):
            stages.SweepConfig(**fields)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Small(Checked):
    """One field of each kind.

    A second paragraph.
    """

    pet: Annotated[str, OneOf(("cat", "dog"))] = "cat"
    """The animal; 100% of it."""
    sizes: tuple[Annotated[float, Range(0, 9)], ...] = (1.0, 2.5)
    """Sizes of it,
    in metres."""
    limit: Annotated[int, Range(1, 5)] | None = None
    """The most (default: no limit)."""
    loud: bool = False
    """Let it speak."""
    mode: Literal["day", "night"] = "day"
    """When."""


def test_flags_become_a_configuration() -> None:
    flags = ["--pet=dog", "--sizes", "0", "3", "--limit", "4", "--loud", "--mode", "night"]
    assert parse(Small, "p", flags) == Small(pet="dog", sizes=(0.0, 3.0), limit=4, loud=True, mode="night")
    assert parse(Small, "p", []) == Small()
    assert parse(Small, "p", ["--no-loud"]) == Small()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--pte dog", "unknown flag --pte; did you mean --pet?; see p --help"),
        ("--no-luod", "unknown flag --no-luod; did you mean --no-loud?; see p --help"),
        ("--zzz=1", "unknown flag --zzz; see p --help"),
        ("--size 1", "unknown flag --size; did you mean --sizes?; see p --help"),
        ("dog", "expected a flag, found 'dog'; see p --help"),
        ("--pet", "--pet: expected one argument; see p --help"),
        ("--sizes", "--sizes: expected at least one argument; see p --help"),
        ("--sizes 1 x", "--sizes: expected a number from 0 to 9, found 'x'; see p --help"),
        ("--limit 2.0", "--limit: expected a whole number from 1 to 5, found '2.0'; see p --help"),
        ("--pet DOG", "Small.pet: expected one of cat, dog, found 'DOG'; did you mean dog?"),
        ("--mode nigth", "Small.mode: expected one of day, night, found 'nigth'; did you mean night?"),
        ("--limit 6", "Small.limit: expected a whole number from 1 to 5, found 6"),
    ],
)
def test_a_wrong_flag_is_refused_with_what_was_expected(flags: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Small, "p", flags.split())
    assert str(caught.value) == message


HELP = """usage: p [--FLAG VALUE ...]

One field of each kind.

A second paragraph.

options:
  -h, --help            show this help message and exit
  --pet {cat,dog}       The animal; 100% of it (default: cat)
  --sizes FLOAT [FLOAT ...]
                        Sizes of it, in metres (default: 1.0 2.5)
  --limit INT           The most (default: no limit)
  --loud, --no-loud     Let it speak (default: no)
  --mode {day,night}    When (default: day)
  --config FILE         JSON file with settings under the names of these
                        flags; flags beside it count more (default: none)
"""


def test_help_is_made_of_the_fields_and_the_texts_under_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        parse(Small, "p", ["--help"])
    assert not stop.value.code
    assert capsys.readouterr().out == HELP


def help_of(stage: type[Checked], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        parse(stage, "p", ["--help"])
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("stage", STAGES)
def test_every_help_text_is_a_phrase_with_a_default_in_words(
    stage: type[Checked], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of(stage, capsys)
    for wrong in ("(default: None)", "(default: )", "(default: '')", "Of the", "  "):
        assert wrong not in shown
    for field in dataclasses.fields(stage):
        text = texts(stage)[field.name]
        assert text.endswith(".")
        assert not text.startswith(("Of ", "As ", "That "))
        assert "[" not in text
        if field.default in (None, ()):
            assert re.search(r"\(default: [^)]+\)\.$", text), field.name
        else:
            assert "(default:" not in text


@pytest.mark.parametrize("stage", STAGES)
def test_help_lists_every_choice_and_help_in_python_every_text(
    stage: type[Checked], capsys: pytest.CaptureFixture[str]
) -> None:
    shown, in_python = help_of(stage, capsys), " ".join(str(inspect.getdoc(stage)).split())
    for name, hint in elements(stage).items():
        rules = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, OneOf)]
        choices = rules[0].choices if rules else typing.get_args(hint) if "Literal" in str(hint) else ()
        for choice in choices:
            assert choice in shown
        assert f"{name}: {texts(stage)[name]}" in in_python


@pytest.mark.parametrize(("stage", "name", "rule"), ranges())
def test_text_for_a_number_is_refused_by_flag(stage: type[Checked], name: str, rule: Range) -> None:
    with pytest.raises(
        ConfigError, match=rf"^{flag(name)}: expected a .*number.*, found 'many'; see prog --help"
    ):
        parse(stage, "prog", [flag(name), "many"])


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
        assert said.err.startswith(f"stage.py: {flag(name)}: ")
        assert said.err.count("\n") == 1
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
    with pytest.raises(ConfigError, match=r"^ExtractConfig\.views: expected plain, mirror or augment:K"):
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
        {"trunk": "timm:resnet18"},
        {"trunk": "timm:resnet18@layer3"},
        {"trunk": "timm:resnet18", "weights": "none"},
        {"crop_share": 0.9},
        {"interpolation": "nearest"},
        {"mean": (0.5, 0.5, 0.5)},
        {"std": (0.5, 0.5, 0.5)},
    ]
    folders = {stages.ExtractConfig(**change).cache_dir for change in changes}
    assert len(folders) == len(changes)


def test_a_heads_own_settings_are_written_down_unless_others_are_asked_for() -> None:
    attention = stages.TrainConfig(head="recurrent-attention").resolved()
    assert (attention.lr, attention.batch) == ((1e-3,), 32)
    asked = stages.TrainConfig(head="recurrent-attention", lr=(0.5,), batch=7).resolved().as_json()
    assert (asked["lr"], asked["batch"]) == ([0.5], 7)
    usual = stages.TrainConfig().resolved()
    assert (usual.lr, usual.batch, usual.crop_cells) == ((0.1,), None, None)


@pytest.mark.parametrize(
    ("config", "field"),
    [(stage, name) for stage, name in fields_once() if is_path(stage, name)],
)
def test_a_tilde_is_the_home_folder_in_every_path(
    config: type[Checked], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell leaves it as it is behind --cache= and folder:."""
    monkeypatch.setenv("HOME", "/home/me")
    kind, name = kinds(config)[field], "folder:" if field == "dataset" else ""
    two = ["--run", "a", "b"] if config is EvaluateConfig and field == "out" else []
    for given, meant in [("~/c", "/home/me/c"), ("~", "/home/me"), ("a/~", "a/~"), ("./~", "./~")]:
        made = parse(config, "p", [*two, f"{flag(field)}={name}{given}"])
        found = getattr(made, field)
        assert found == ((name + meant,) if kind.many else name + meant)
        assert config.from_json(made.as_json()) == made
    for wrong in ("~nobody-at-all/c", *([] if name else [""])):
        with pytest.raises(ConfigError, match=f"{field}: expected .* found '{wrong}'"):
            parse(config, "p", [*two, f"{flag(field)}={name}{wrong}"])


def test_every_text_that_is_a_path_is_known_as_one() -> None:
    """Were one of them typed as plain text, the test above would leave it out."""
    found = {name for stage, name in fields_once() if is_path(stage, name)}
    assert found == {
        "dataset",
        "labels",
        "weights",
        "cache",
        "stage",
        "init",
        "out",
        "run",
        "trunk_out",
        "trunk_run",
        "images",
    }


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("digits", "digits"),
        ("folder:photos", "photos"),
        ("folder:/elsewhere/my photos/", "my-photos"),
        ("folder:../../photos", "photos"),
        ("folder:/", ""),
        ("csv:/data/birds/labels.csv", "csv-birds-labels"),
        ("csv:/moved/birds/labels.csv", "csv-birds-labels"),
        ("coco:/data/coco2017", "coco-coco2017"),
        ("voc2007", "voc2007"),
    ],
)
def test_the_name_of_a_dataset_stays_when_its_folder_moves(dataset: str, name: str) -> None:
    assert name_of_dataset(dataset) == name
