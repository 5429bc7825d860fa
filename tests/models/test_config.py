"""Settings: grouped ones by dotted names, and what is refused."""

import math
from typing import Self

import numpy as np
import pytest
from pydantic import Field, model_validator

from graphdiff.errors import ConfigError
from graphdiff.models import MODELS, BaseConfig, ModelConfig
from graphdiff.models.config import configure, flat_settings, setting_names


class Inner(BaseConfig):
    depth: int = Field(2, ge=1)
    weights: dict[str, float] = Field({})


class Group(BaseConfig):
    steps: int = Field(5, ge=1)
    noise: float = Field(0.1, ge=0)
    inner: Inner = Inner()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.steps == 13:
            raise ValueError("thirteen steps are not allowed")
        return self


class Settings(ModelConfig):
    group: Group = Group()
    plain: float | None = None


def read(**settings):
    return configure(Settings, settings, "Mine")


@pytest.mark.parametrize(
    "settings",
    [
        {"group.steps": 7},
        {"group": {"steps": 7}},
        {"group": Group(steps=7)},
        {"group": {}, "group.steps": 7},
    ],
)
def test_a_grouped_setting_is_given_by_name_or_in_a_group(settings):
    config = read(**settings)
    assert config.group.steps == 7
    assert config.group.noise == 0.1
    assert config == read(**{"group.steps": 7})


def test_both_ways_complete_each_other():
    for settings in (
        {"group": {"noise": 0.5}, "group.inner.depth": 3, "group.steps": 7},
        {"group.steps": 7, "group.inner": {"depth": 3}, "group": Group(noise=0.5)},
    ):
        config = read(**settings)
        assert (config.group.noise, config.group.inner.depth, config.group.steps) == (0.5, 3, 7)


def test_what_was_given_is_not_changed():
    group = {"inner": {"depth": 3}}
    read(**{"group": group, "group.steps": 7, "group.inner.weights": {"a": 1}})
    assert group == {"inner": {"depth": 3}}


def test_names_and_values_of_all_settings():
    names = setting_names(Settings)
    assert names[-5:] == ["group.steps", "group.noise", "group.inner.depth",
                          "group.inner.weights", "plain"]  # fmt: skip
    values = flat_settings(read(**{"group.inner.depth": 3}))
    assert list(values) == names
    assert values["group.inner.depth"] == 3
    assert configure(Settings, values, "Mine") == read(**{"group.inner.depth": 3})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"groop.steps": 7},
            r"Mine has no setting 'groop\.steps'; it has hidden_channels, .*group\.",
        ),
        ({"group.stops": 7}, r"no setting 'group\.stops'"),
        ({"group": {"stops": 7, "inner": {"dept": 1}}}, r"'group\.inner\.dept', 'group\.stops'"),
        ({"lr.x": 7}, r"lr=\{'x': 7\}: Input should be a valid number"),
        ({"group.steps": 0}, r"group\.steps=0: Input should be greater than or equal to 1"),
        (
            {"group": {"inner": {"depth": "x"}}},
            r"group\.inner\.depth='x': Input should be a valid int",
        ),
        ({"group": 3}, "group=3"),
        ({"group": 3, "group.steps": 7}, r"group\.steps is given, but group is 3; give group as a"),
        ({"group": {"steps": 3}, "group.steps": 7}, r"the setting group\.steps is given twice"),
        ({"group": Group(steps=3), "group.steps": 7}, r"the setting group\.steps is given twice"),
        ({"group.steps": 13}, "group=.*thirteen steps are not allowed"),
        ({"lr": math.nan}, "lr=nan: Input should be a finite number"),
        ({"lr": math.inf}, "lr=inf: Input should be a finite number"),
        ({"group.noise": math.inf}, r"group\.noise=inf: Input should be a finite number"),
        (
            {"group.inner.weights": {"a": math.nan}},
            r"group\.inner\.weights\.a=nan: Input should be a",
        ),
        ({"": 3}, "no setting ''"),
        ({".": 3}, r"no setting '\.'"),
        ({"group.": 3}, r"no setting 'group\.'"),
        ({"group..steps": 3}, r"no setting 'group\.\.steps'"),
    ],
)
def test_what_is_wrong_is_named_in_full(settings, message):
    with pytest.raises(ConfigError, match=message):
        read(**settings)


@pytest.mark.parametrize("model_class", MODELS.values(), ids=list(MODELS))
def test_every_setting_of_every_model_refuses_what_is_no_number(model_class):
    config = model_class.configure()
    values = flat_settings(config)
    assert model_class.configure(**values) == config
    numbers = [name for name, value in values.items() if type(value) in (int, float)]
    for name in numbers:
        for wrong in (math.nan, math.inf, -math.inf, True, "x", np.float32(math.nan)):
            with pytest.raises(ConfigError, match=f"{name}="):
                model_class.configure(**{name: wrong})
        same = model_class.configure(**{name: np.array(values[name])})
        assert same == config
    with pytest.raises(ConfigError, match=r"has no setting 'no\.such'"):
        model_class.configure(**{"no.such": 1})
