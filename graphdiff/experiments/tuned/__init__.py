"""Settings that tuning found, one file per dataset and model: ``DATASET/MODEL.yaml``.

Each file holds the ``settings``, the validation metrics that they reached and what finding them
took. ``graphdiff tune`` writes such files, with the fingerprint of the data that they are of: on
other data of the same name they do not count. Files without a fingerprint, as those that come with
graphdiff, belong to the name of their dataset. ``defaults.yaml`` counts the trainings on the
validation pairs of a dataset that led to the defaults of a model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from graphdiff.errors import ConfigError
from graphdiff.experiments.terms import known_fingerprints

#: The files that come with graphdiff.
TUNED = Path(__file__).parent


def tuned_settings(dataset: str, model: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the settings that tuning found for a model on a dataset.

    Args:
        dataset: Name of the dataset, in any case.
        model: Name of the model, in any case.
        folder: Folder of further files, which are preferred to those that come with graphdiff.

    Returns:
        Settings by name; empty where the model was not tuned on this dataset.

    Raises:
        ConfigError: If the file cannot be read.
    """
    return tuning_record(dataset, model, folder).get("settings", {})


def tuning_record(
    dataset: str,
    model: str,
    folder: Path | None = None,
    *,
    data: Callable[[], tuple[str, str]] | None = None,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Return all that tuning wrote about a model on a dataset, empty where there is no file.

    Args:
        dataset: Name of the dataset, in any case.
        model: Name of the model, in any case.
        folder: Folder of further files, which are preferred to those that come with graphdiff.
        data: Function that returns the fingerprints of the data with times and without; a file of
            other data is passed over. None reads the files of the name, whatever their data.
        report: Called with a line of text for each file that is passed over.

    Raises:
        ConfigError: If the file cannot be read.
    """
    name = f"{model.lower()}.yaml"
    for parent in (folder, TUNED):
        path = None if parent is None else parent / dataset.lower() / name
        if path is None or not path.is_file():
            continue
        found = _read(path)
        known = known_fingerprints(found.get("search", {}))
        if data is None or not known or not known.isdisjoint(data()):
            return found
        if report is not None:
            report(
                f"{path} is not used: it was found on other data, of fingerprint "
                f"{found['search'].get('fingerprint')} instead of {data()[0]}; find settings of "
                f"this data with `graphdiff tune` and another --out folder."
            )
    return {}


def trainings_of_defaults(dataset: str, model: str) -> int:
    """Return how many trainings on a dataset's validation pairs led to the defaults of a model, at
    least.

    Args:
        dataset: Name of the dataset, in any case.
        model: Name of the model, in any case.
    """
    return _yaml(TUNED / "defaults.yaml").get(dataset.lower(), {}).get(model.lower(), 0)


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None


def _read(path: Path) -> dict[str, Any]:
    found = _yaml(path)
    parts = [found.get(name, {}) for name in ("settings", "search")] if type(found) is dict else []
    if not parts or not all(isinstance(one, dict) for one in parts):
        raise ConfigError(f"{path} holds no settings; expected what `graphdiff tune` writes")
    return found
