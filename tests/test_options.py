"""Options written as ``name=value``."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdiff.errors import ConfigError
from graphdiff.options import dataset_options, override, parse_options, parse_value, split_options

NAMES = st.text(st.characters(exclude_characters="="), min_size=1)


@given(NAMES, st.text(min_size=1))
def test_the_first_equals_sign_separates_name_and_value(name, value):
    assert split_options([f"{name}={value}"], "--set") == {name: value}


@pytest.mark.parametrize("text", ["", "x", "=1", "x=", "="])
def test_what_is_not_name_and_value_is_refused(text):
    with pytest.raises(ConfigError, match=r"--set .* is not name=value"):
        split_options([text], "--set")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("1e-3", 0.001), ("-2E5", -200000.0), ("1.5", 1.5), ("true", True),
        ("null", None), ("[1, 2]", [1, 2]), ("{a: 1}", {"a": 1}), ("text", "text"),
        ("'3'", "3"), ("1e", "1e"),
    ],
)  # fmt: skip
def test_values_are_yaml(text, value):
    found = parse_options([f"x={text}"], "--set")["x"]
    assert found == value
    assert type(found) is type(value)


@given(st.text())
def test_kind_h_any_text_is_a_value_or_refused_by_name(text):
    message = ""
    try:
        parse_value("--set x", text)
    except ConfigError as error:
        message = str(error)
    assert message.startswith("--set x is not readable YAML: ") or not message
    assert "\n" not in message


def test_the_type_of_a_dataset_option_decides_how_it_is_read():
    options = ["user=1", "item=no", "k_core=5", "ratios=[0.8, 0.1, 0.1]"]
    assert dataset_options("csv", ["image=a=b.npy"], options) == {
        "user": "1",
        "item": "no",
        "k_core": 5,
        "ratios": [0.8, 0.1, 0.1],
        "features": {"image": "a=b.npy"},
    }


@pytest.mark.parametrize(
    ("settings", "changes", "expected"),
    [
        ({"lr": 1}, {"lr": 2}, {"lr": 2}),
        ({"d": {"n": 5, "m": 1}}, {"d.n": 10}, {"d": {"n": 10, "m": 1}}),
        ({"d.n": 5}, {"d.n": 10}, {"d.n": 10}),
        ({"d.n": 5, "d.m": 1}, {"d": {"n": 10}}, {"d": {"n": 10}}),
        ({"lr": 1}, {"d.n": 10}, {"lr": 1, "d.n": 10}),
        ({"d": {"e": {"f": 1}}}, {"d.e.f": 2}, {"d": {"e": {"f": 2}}}),
    ],
)
def test_settings_of_groups_are_overridden(settings, changes, expected):
    before = repr(settings)
    assert override(settings, changes) == expected
    assert repr(settings) == before
