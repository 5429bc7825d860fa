"""Arguments that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from graphdiff.errors import ConfigError
from graphdiff.options import override, parse_options, parse_value

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder written by `graphdiff train`.")]
Root = Annotated[Path | None, typer.Option(help="Folder of the dataset's files.")]
Features = Annotated[
    list[str] | None,
    typer.Option(help="A modality's file, as name=file; repeatable; for layouts that take them."),
]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", help="One argument of the dataset, as name=value; repeatable."),
]
ModelClass = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODULE:CLASS",
        help="Class of the model, if it is your own and no installed package declares it.",
    ),
]
DatasetClass = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="MODULE:CLASS",
        help="Class of the dataset, if it is your own and no installed package declares it.",
    ),
]
SettingsFile = Annotated[Path | None, typer.Option(help="YAML file with settings of the model.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, as name=value or group.name=value; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def import_model(name: str | None) -> None:
    """Import the user's own model class, so that a RUN folder that holds it can be loaded.

    Raises:
        ConfigError: If there is no such model.
    """
    if name is not None:
        from graphdiff.models.registry import get_model

        get_model(name)


def import_dataset(name: str | None) -> None:
    """Import the user's own dataset class, so that a RUN folder that names it can load its data.

    Raises:
        ConfigError: If there is no such dataset.
    """
    if name is not None:
        from graphdiff.datasets.registry import get_dataset

        get_dataset(name, import_module=True)


def tuned_settings(dataset: str, model: str) -> dict[str, Any]:
    """Return the settings that ``--tuned`` gives.

    Raises:
        ConfigError: If the model was not tuned on the dataset.
    """
    from graphdiff.experiments.tuned import tuning_record

    found = tuning_record(dataset, model)
    if not found:
        raise ConfigError(
            f"there are no tuned settings of {model!r} on {dataset!r}; leave out --tuned, or find "
            f"some with `graphdiff tune --dataset {dataset} --model {model}`"
        )
    return dict(found.get("settings", {}))


def model_settings(
    config: Path | None, pairs: list[str] | None, defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the settings of a model that ``--config`` and ``--set`` give; the latter win.

    Args:
        config: YAML file with settings.
        pairs: Settings as ``name=value``, or ``group.name=value``.
        defaults: Settings that both override.

    Raises:
        ConfigError: If the file is missing or does not hold settings, or a pair is not
            ``name=value``.
    """
    settings = dict(defaults or {})
    if config is not None:
        if not config.is_file():
            raise ConfigError(f"no file {config}; give a YAML file with settings of the model")
        loaded = parse_value(str(config), config.read_bytes()) or {}
        if isinstance(loaded, dict):
            loaded = loaded.get("settings", loaded)
        if not (isinstance(loaded, dict) and all(isinstance(name, str) for name in loaded)):
            raise ConfigError(f"{config} holds {type(loaded).__name__}; expected name: value lines")
        settings = override(settings, loaded)
    return override(settings, parse_options(pairs or [], "--set"))


def given_options(context: typer.Context) -> set[str]:
    """Return the names of the options that were given on the command line."""
    return {
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
