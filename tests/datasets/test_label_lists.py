"""Labels as people write them: understood, or asked about by the line, never torn apart or glued together."""

import pytest

from pipeline.datasets.label_lists import Field, read
from pipeline.errors import DataError


def labels(*texts: str, separator: str | None = None) -> list[list[str]]:
    fields = [Field(text, f"t.csv, line {i}") for i, text in enumerate(texts, 2)]
    return [sorted(names) for names in read(fields, separator)[0]]


def remarks(*texts: str, separator: str | None = None) -> list[str]:
    return read([Field(text, "t.csv, line 2") for text in texts], separator)[1]


def refusal(*texts: str, separator: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        labels(*texts, separator=separator)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("dog, cat", ","),
        ("dog,cat", ","),
        ("cat ,  dog", ","),
        ("dog|cat", "'|'"),
        ("dog | cat |", "'|'"),
        ("dog; cat;", "';'"),
        ("dog;;cat", "';'"),
        ("dog  cat", "space"),
        ("dog\u00a0cat", "space"),
        ("dog\ncat", "$'\\n'"),
        ("dog\tcat", "$'\\t'"),
        ("dog/cat", "/"),
        ("dog & cat", "'&'"),
        ("dog+cat", "+"),
    ],
)
def test_a_separator_that_the_table_shows_is_used_and_said(text: str, word: str) -> None:
    assert labels("dog", text, " cat ", "") == [["dog"], ["cat", "dog"], ["cat"], []]
    (said,) = remarks("dog", text, " cat ", "")
    assert said.endswith(f"as the table shows (--label-separator {word})")


@pytest.mark.parametrize(
    "text",
    [
        "['dog', 'cat']",
        '["dog", "cat"]',
        "[ 'dog' ,\"cat\", ]",
        "{'cat', 'dog'}",
        "('dog', 'cat')",
        "[dog, cat]",
    ],
)
def test_lists_are_understood(text: str) -> None:
    assert labels(text, "cat", "[]", "['cat']") == [["cat", "dog"], ["cat"], [], ["cat"]]


def test_names_in_lists_stay_whole() -> None:
    assert labels("['golden retriever', 'Paris, France']") == [["Paris, France", "golden retriever"]]
    assert labels("[1, 2]", "3") == [["1", "2"], ["3"]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nan",
        "NaN",
        "None",
        "none",
        "NULL",
        "n/a",
        "<NA>",
        "[]",
        "[ ]",
        "{}",
        "[nan]",
        "['nan']",
        "[None]",
    ],
)
@pytest.mark.parametrize("separator", [None, ",", "space", "none"])
def test_no_label_is_no_class(text: str, separator: str | None) -> None:
    assert labels("dog", text, separator=separator) == [["dog"], []]
    assert any("mean no label" in said for said in remarks("dog", text)) == (text.strip()[:1] not in "[{")


@pytest.mark.parametrize("text", ["dog|nan", "nan|dog", "['dog', 'None']", "dog|NA|cat"])
def test_no_label_among_others_is_refused_by_line(text: str) -> None:
    assert "t.csv, line 3: column labels: found 'N" in refusal("dog", text).replace("'n", "'N")


@pytest.mark.parametrize(
    "text",
    ["['dog' 'cat']", "[dog cat]", "['dog', 'cat'", "['it's']", '{"dog": 1}', "[['dog']]", "['dog', x y]"],
)
def test_lists_that_are_none_are_refused_by_line_or_asked_about(text: str) -> None:
    assert "t.csv, line 3: column labels: " in refusal("dog", text)


ONE_OR_SEVERAL = {
    "golden retriever": "space",
    "hot dog": "space",
    "tench, Tinca tinca": ",",
    "Paris, dog": ",",
}


@pytest.mark.parametrize("text", ONE_OR_SEVERAL)
def test_a_name_that_may_be_several_is_asked_about_and_both_answers_work(text: str) -> None:
    word = ONE_OR_SEVERAL[text]
    said = refusal("dog", text)
    assert (
        f"t.csv, line 3: column labels: is {text!r} one label or 2? If one, add --label-separator none"
        in said
    )
    assert said.endswith(f"if 2, --label-separator {word}")
    assert labels("dog", text, separator="none") == [["dog"], [text]]
    parts = sorted(part.strip() for part in (text.split() if word == "space" else text.split(word)))
    assert labels("dog", text, separator=word) == [["dog"], parts]


def test_a_name_that_others_make_up_is_asked_about_though_the_separator_is_clear() -> None:
    assert "one label or 2? If one, add --label-separator '|'; if 2, --label-separator ," in refusal(
        "dog|cat", "dog, cat"
    )
    assert "is 'red panda' one label or 2?" in refusal("red|panda", "red panda", "red")
    assert labels("hot dog|dog", "dog") == [["dog", "hot dog"], ["dog"]]
    assert labels("golden retriever, cat", "cat", "golden retriever")[0] == ["cat", "golden retriever"]


def test_two_clear_separators_are_asked_about() -> None:
    said = refusal("dog|cat", "dog; cat")
    assert "line 3: column labels: 'dog; cat' has ';', other lines have '|'" in said
    assert said.endswith("--label-separator '|' or ';'")


def test_names_that_need_no_separator_are_left_alone() -> None:
    names = ["c++", "a/b", "tea-pot", "n_1", "rock&roll", "(x)"]
    assert labels(*names) == [[name] for name in names]
    assert remarks(*names) == []


def test_a_label_twice_counts_once() -> None:
    assert labels("dog|dog", "dog, cat ,dog", separator="|") == [["dog"], ["dog, cat ,dog"]]
    assert labels("dog,dog", "dog") == [["dog"], ["dog"]]


def test_a_given_separator_that_no_line_has_is_said() -> None:
    assert remarks("dog|cat", "dog", separator=",") == [
        "no line has several labels with ',' between them (--label-separator)"
    ]
    assert remarks("dog", "cat", separator="none") == []


def test_a_long_hostile_field_takes_no_time() -> None:
    for text in ("[" + " " * 100_000 + "x", "['a'" + " " * 100_000 + ", b c]", "[" + "a," * 50_000 + " b c]"):
        assert "column labels" in refusal("dog", text)
