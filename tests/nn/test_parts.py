"""Parts of a model: their description as plain values, and the way back."""

import copy
import inspect
import json

import pytest
import torch

from graphdiff.errors import ConfigError
from graphdiff.nn.parts import Part, build_part, describe_part, qualified_name


class Scale(Part):
    def __init__(self, factor, *more, bias=0.0, **names):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([factor, *more, bias]))
        self.names = names


class Doubled(Scale):
    def __init__(self, factor):
        super().__init__(2 * factor, bias=1.0)


class Renamed(Doubled):
    pass


def test_arguments_of_every_kind_are_recorded_and_given_again():
    part = Scale(1.5, 2.5, bias=3.5, first=[1, (2, "x")], second={"a": None})
    description = json.loads(json.dumps(describe_part(part)))
    assert description["class"] == f"{__name__}.Scale"
    again = build_part(description)
    assert type(again) is Scale
    assert torch.equal(again.weight, part.weight)
    assert again.names == {"first": [1, [2, "x"]], "second": {"a": None}}


@pytest.mark.parametrize("cls", [Doubled, Renamed])
def test_of_nested_constructors_the_outermost_counts(cls):
    part = cls(4.0)
    assert describe_part(part) == {"class": qualified_name(cls), "arguments": {"factor": 4.0}}
    assert torch.equal(build_part(describe_part(part)).weight, torch.tensor([8.0, 1.0]))


def test_a_copy_has_the_same_description():
    part = Scale(1.0, name="x")
    assert describe_part(copy.deepcopy(part)) == describe_part(part)


def test_the_constructor_keeps_its_signature_and_its_errors():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'factor'"):
        Doubled()
    assert "factor" in str(inspect.signature(Doubled))


@pytest.mark.parametrize(
    "part", [torch.nn.Linear(2, 2), Scale(1.0, name=torch.zeros(1)), Scale(1.0, name={1: 2})]
)
def test_other_objects_have_to_be_given_again(part):
    description = describe_part(part)
    assert description == {"class": qualified_name(type(part)), "arguments": None}
    with pytest.raises(ConfigError, match=r"cannot be rebuilt.*give the part again"):
        build_part(description)


def test_a_class_that_is_not_defined_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="import stranger first"):
        build_part({"class": "stranger.CNet", "arguments": {}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 1, "wrong": 2}, "no argument wrong"),
        ({}, "missing 1 required"),
        ({"factor": "x"}, "made"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_part({"class": qualified_name(Doubled), "arguments": arguments})


def test_a_description_without_a_class_is_refused():
    with pytest.raises(ConfigError, match="has the class None"):
        build_part({"arguments": {}})
