"""A RUN: one training with its data, settings, weights and results, as a folder.

======================  ====================================================================
``config.yaml``         sections ``model``, ``dataset`` and ``training``
``model.safetensors``   weights and graph of the best epoch so far
``ids.json``            raw ids, where the data has them
``metrics.csv``         one line per validated epoch
``results.json``        what training did, and the metrics on validation and test
``checkpoints/``        the whole state after the last epoch, to resume from
======================  ====================================================================

Every file is written whole or not at all, so that a RUN survives being killed at any moment.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from graphdiff import datasets
from graphdiff.errors import ConfigError, RunError
from graphdiff.evaluation.ranking import evaluate
from graphdiff.files import make_folder, write_text
from graphdiff.models.base import Recommender
from graphdiff.models.registry import get_model
from graphdiff.models.storage import CONFIG, IDS, WEIGHTS, load_model, read_config, update_config
from graphdiff.schema import fingerprint
from graphdiff.training.checkpoints import checkpoint_of
from graphdiff.training.fit import fit

#: Arguments of :func:`graphdiff.fit` that may change when a training goes on.
CHANGEABLE = ("epochs", "patience", "min_steps", "accelerator", "progress")
#: What a training leaves in its RUN folder beside ``config.yaml``.
OUTPUTS = (WEIGHTS, IDS, "metrics.csv", "results.json", "checkpoints/last.ckpt")


def train_run(
    folder: Path,
    dataset: str,
    model: str,
    root: Path | None = None,
    settings: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    mask_validation: bool = False,
    overwrite: bool = False,
    **training: Any,
) -> dict[str, Any]:
    """Trains a model on a dataset by name and leaves a RUN folder.

    Args:
        folder: The RUN folder to write.
        dataset: Name of a dataset; see :func:`graphdiff.datasets.load`.
        model: Name of a model; see :data:`graphdiff.models.registry.MODELS`.
        root: Folder of the dataset's files.
        settings: The model's settings; its defaults otherwise.
        options: Further arguments of the dataset's class, such as ``features``.
        mask_validation: Leave validation items out of the test ranking.
        overwrite: Replace a training that is in the folder already.
        **training: Arguments of :func:`graphdiff.fit`.

    Returns:
        The content of ``results.json``.

    Raises:
        RunError: If the folder holds a training already.
        StorageError: If the folder cannot be written to.
    """
    there = [name for name in OUTPUTS if (folder / name).exists()]
    if there and not overwrite:
        raise RunError(
            f"{folder} holds a training already ({', '.join(there)}); go on with it by "
            f"`graphdiff train --resume {folder}`, replace it with --overwrite, or give another "
            "folder"
        )
    cls = get_model(model)
    data = datasets.load(dataset, root, **(options or {}))[0]
    recommender = cls.from_data(data, **(settings or {}))
    make_folder(folder)
    for name in there:
        (folder / name).unlink()
    update_config(
        folder,
        {
            "model": {"name": cls.__name__, "settings": recommender.config.model_dump()},
            "dataset": {
                "name": dataset,
                "root": str(Path(root).resolve()) if root is not None else None,
                "options": options or {},
                "fingerprint": fingerprint(data),
            },
            "training": {
                **{name: value for name, value in training.items() if name != "progress"},
                "mask_validation": mask_validation,
            },
        },
    )
    return _fit_and_test(folder, recommender, data, dataset, mask_validation, **training)


def resume_run(folder: Path, root: Path | None = None, **changes: Any) -> dict[str, Any]:
    """Goes on with a training that was cut off, to the end that it would have had.

    Dataset, model, settings and training options are those it was begun with. A training that was
    cut off before its first checkpoint starts over; one that was finished is left at its end.

    Args:
        folder: A RUN folder.
        root: Folder of the dataset's files, where it has moved since.
        **changes: Arguments of :func:`graphdiff.fit` among :data:`CHANGEABLE` that shall differ.

    Returns:
        The content of ``results.json``.

    Raises:
        RunError: If the folder is no RUN, its checkpoint is damaged, or the data is another.
        ConfigError: If something else is to be changed.
    """
    for name in changes:
        if name not in CHANGEABLE:
            raise ConfigError(
                f"a resumed training goes on as it was begun, so {name!r} cannot be given; what "
                f"may change are {', '.join(CHANGEABLE)}"
            )
    config = read_config(folder)
    training = config.get("training")
    if training is None:
        raise RunError(f"{folder} has no section 'training' in its config.yaml to go on with")
    data = _load_data(folder, config, root)
    recommender = _made_anew(folder, config, data)
    arguments = {"resume": checkpoint_of(folder).is_file(), **training, **changes}
    mask_validation = arguments.pop("mask_validation", False)
    known = inspect.signature(fit).parameters
    for name, value in arguments.items():
        if name not in known or type(value) is not type(known[name].default):
            raise RunError(f"{folder / CONFIG}: {name}={value!r} is no option of training")
    kept = {name: value for name, value in changes.items() if name != "progress"}
    update_config(folder, {"training": training | kept})
    name = config["dataset"]["name"]
    return _fit_and_test(folder, recommender, data, name, mask_validation, **arguments)


def _made_anew(folder: Path, config: dict[str, dict], data: HeteroData) -> Recommender:
    section = config["model"]
    try:
        return get_model(str(section.get("name"))).from_data(data, **section.get("settings", {}))
    except (ConfigError, TypeError) as error:
        raise RunError(f"{folder / CONFIG}: {error}") from None


def _fit_and_test(
    folder: Path,
    recommender: Recommender,
    data: HeteroData,
    dataset: str,
    mask_validation: bool,
    **training: Any,
) -> dict[str, Any]:
    fitted = fit(recommender, data, out=folder, **training)
    results = {
        "model": type(recommender).__name__,
        "dataset": dataset,
        "parameters": recommender.num_parameters(),
        **{key: value for key, value in fitted.to_dict().items() if key != "history"},
        "test": evaluate(recommender, data, "test", mask_validation=mask_validation),
    }
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def open_run(folder: Path, root: Path | None = None) -> tuple[Recommender, HeteroData]:
    """The model of a RUN and the dataset it was trained on.

    Args:
        folder: A RUN folder.
        root: Folder of the dataset's files, where it has moved since training.

    Raises:
        RunError: If the folder is no RUN, or the data is not the one it was trained on.
    """
    config = read_config(folder)
    model = load_model(folder, Recommender)  # type: ignore[type-abstract]
    return model, _load_data(folder, config, root)


def _load_data(folder: Path, config: dict[str, dict], root: Path | None) -> HeteroData:
    section = config.get("dataset")
    if section is None or "name" not in section:
        raise RunError(f"{folder} has no section 'dataset' in its config.yaml; is it a RUN folder?")
    where, options = root if root is not None else section.get("root"), section.get("options") or {}
    if not (isinstance(where, (str, Path, type(None))) and isinstance(options, dict)):
        raise RunError(
            f"{folder / CONFIG}: root is no folder, or options are not name: value lines"
        )
    data = datasets.load(str(section["name"]), where, import_module=False, **options)[0]
    check_dataset(folder, config, data)
    return data


def check_dataset(folder: Path, config: dict[str, dict], data: HeteroData) -> None:
    """Refuses data that the RUN was not trained on.

    Raises:
        RunError: Naming both fingerprints.
    """
    expected = config.get("dataset", {}).get("fingerprint")
    found = fingerprint(data)
    if found != expected:
        raise RunError(
            f"{folder} was trained on other data: its fingerprint is {expected}, this data's is "
            f"{found}; give the dataset's folder with --root, or train anew"
        )
