"""A RUN: one training with its data, settings, weights and results, as a folder.

======================  ====================================================================
``config.yaml``         sections ``model``, ``dataset``, ``training`` and ``evaluation``:
                        a :class:`~graphdiff.training.config.RunConfig`
``model.safetensors``   weights and graph of the best epoch so far
``ids.json``            raw ids, where the data has them
``items.json``          titles, categories and image addresses of items, likewise
``metrics.csv``         one line per validated epoch
``results.json``        outcome of the training, and the metrics on validation and test
``checkpoints/``        complete state after the last epoch, to resume from
``encoders/``           encoders fitted to the texts of items, for the texts of later items
``versions/``           versions of the model, after updates; see :mod:`graphdiff.updates`
======================  ====================================================================

Every file is written atomically, so that a RUN survives being killed at any moment.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from graphdiff import datasets
from graphdiff.console import print_status
from graphdiff.distributed.processes import is_main
from graphdiff.errors import ConfigError, RunError
from graphdiff.evaluation.ranking import check_evaluation, describe_masking, evaluate
from graphdiff.files import make_folder, write_text
from graphdiff.models.base import Recommender
from graphdiff.models.registry import find_model, saved_class
from graphdiff.models.storage import (
    CONFIG,
    IDS,
    ITEMS,
    WEIGHTS,
    describe_model,
    load_model,
    read_config,
    update_config,
)
from graphdiff.schema import INTERACTS, ITEM, USER, fingerprint, modalities
from graphdiff.schema.names import TIME
from graphdiff.training.checkpoints import checkpoint_of
from graphdiff.training.config import RunConfig, run_config, training_config
from graphdiff.training.fit import check_accelerator, check_monitor, check_training, fit
from graphdiff.training.sharding import check_sharding

#: Settings of a training that may change when it is resumed.
CHANGEABLE = (
    "epochs",
    "patience",
    "min_steps",
    "max_minutes",
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "shard_items",
)
#: Files that a training writes into its RUN folder beside ``config.yaml``.
OUTPUTS = (WEIGHTS, IDS, ITEMS, "metrics.csv", "results.json", "checkpoints/last.ckpt")
#: Folders of the versions of a RUN's model, and of its encoders of texts.
VERSIONS, ENCODERS = "versions", "encoders"


def train_run(
    folder: Path, config: RunConfig, *, overwrite: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Train a model on a dataset, both given by name, and write a RUN folder.

    Everything that can be checked beforehand is checked before the first step.

    Args:
        folder: The RUN folder to write.
        config: Model, dataset, and settings of training and test.
        overwrite: Replace a training that is already in the folder.
        progress: Show a progress bar.

    Returns:
        The content of ``results.json``; empty in all but the main one of several processes.

    Raises:
        RunError: If the folder already holds a training.
        ConfigError: If a setting does not exist or fit.
        DataError: If the dataset cannot be read, or has no test pairs.
        StorageError: If the folder cannot be written to.
    """
    existing = check_folder(folder, overwrite)
    cls, settings = check_settings(config)
    if cls.batch_over != "nothing":
        check_accelerator(config.training)
    dataset = config.dataset
    source = datasets.load(dataset.name, dataset.root, **dataset.options)
    data = source[0]
    _check_before_training(data, config)
    recommender = cls.from_data(data, **settings)
    if is_main():
        make_folder(folder)
        for name in existing:
            (folder / name).unlink()
        for name in (VERSIONS, ENCODERS):
            shutil.rmtree(folder / name, ignore_errors=True)
        _save_encoders(source, folder)
    root = None if dataset.root is None else str(Path(dataset.root).resolve())
    model = describe_model(recommender)
    config = config.model_copy(
        update={
            "model": config.model.model_copy(update=model),
            "dataset": dataset.model_copy(update={"root": root, "fingerprint": fingerprint(data)}),
        }
    )
    if is_main():
        update_config(folder, config.model_dump(mode="json"))
    return _fit_and_test(folder, recommender, data, config, resume=False, progress=progress)


def check_folder(folder: Path, overwrite: bool) -> list[str]:
    """Return the files of an earlier training in a folder.

    Raises:
        RunError: If there are any, unless ``overwrite`` is set.
    """
    existing = [name for name in OUTPUTS if (folder / name).exists()]
    if existing and not overwrite:
        raise RunError(
            f"{folder} already holds a training ({', '.join(existing)}); resume it with "
            f"`graphdiff train --resume {folder}`, replace it with --overwrite, or give another "
            "folder"
        )
    return existing


def check_settings(config: RunConfig) -> tuple[type[Recommender], dict[str, Any]]:
    """Return the class of a run's model and its settings, checked.

    Raises:
        ConfigError: If there is no such model, setting or metric.
    """
    named = find_model(config.model.name)
    settings = named.settings(config.model.settings)
    check_monitor(config.training.monitor)
    check_sharding(named.model, config.training)
    return named.model, settings


def resume_run(
    folder: Path, root: Path | None = None, *, progress: bool = True, **changes: Any
) -> dict[str, Any]:
    """Resume a training that was cut off, up to the end that it would have had.

    Dataset, model and settings are those in ``config.yaml``. A training that was cut off before
    its first checkpoint starts over; a finished one is left as it is.

    Args:
        folder: A RUN folder.
        root: Folder of the dataset's files, where it has moved since.
        progress: Show a progress bar.
        **changes: Settings of the training among :data:`CHANGEABLE`.

    Returns:
        The content of ``results.json``.

    Raises:
        RunError: If the folder is no RUN, its checkpoint is damaged, or the data is different.
        ConfigError: If another setting is to be changed.
    """
    for name in changes:
        if name not in CHANGEABLE:
            raise ConfigError(
                f"a resumed training keeps its settings, so {name!r} cannot be given; "
                f"{', '.join(CHANGEABLE)} may change"
            )
    config = read_run(folder)
    if config.version.number:
        raise RunError(
            f"{folder} holds version {config.version.number} of an updated model, which resuming "
            "its training would replace; train into another folder"
        )
    config = config.model_copy(update={"training": training_config(config.training, changes)})
    check_monitor(config.training.monitor)
    data = _load_data(folder, config, root)
    _check_before_training(data, config)
    recommender = _new_model(folder, config, data)
    if is_main():
        update_config(folder, {"training": config.training.model_dump(mode="json")})
    resume = checkpoint_of(folder).is_file()
    return _fit_and_test(folder, recommender, data, config, resume=resume, progress=progress)


def read_run(folder: Path) -> RunConfig:
    """Return the configuration of a RUN folder.

    Raises:
        RunError: If the folder is no RUN, or its ``config.yaml`` has an unknown or unfit setting.
    """
    sections = read_config(folder)
    for name in ("dataset", "training"):
        if name not in sections:
            raise RunError(
                f"{folder / CONFIG} has no section {name!r}; give a folder written by "
                "`graphdiff train`"
            )
    return run_config(sections, RunError, str(folder / CONFIG))


def encoder_file(run: Path, modality: str) -> Path:
    """Return the file of the encoder of a modality's texts, whether it is there or not."""
    return run / ENCODERS / f"{modality}.safetensors"


def version_folder(run: Path, number: int) -> Path:
    """Return the folder of a version of a RUN's model, whether it is there or not."""
    return run / VERSIONS / f"{number:04d}"


def open_run(
    folder: Path, root: Path | None = None, config: RunConfig | None = None
) -> tuple[Recommender, HeteroData]:
    """Return the model of a RUN and the dataset that it was trained on.

    Args:
        folder: A RUN folder.
        root: Folder of the dataset's files, where it has moved since training.
        config: Configuration of the RUN, if it was read already.

    Raises:
        RunError: If the folder is no RUN, its model was updated, or the data is not what the model
            was trained on.
    """
    config = read_run(folder) if config is None else config
    if config.version.number > 1:
        # The trained model is not kept for ever, and forgetting removes it.
        remedy = (
            f"return to version 1 with `graphdiff versions {folder} --rollback 1`"
            if version_folder(folder, 1).is_dir() and config.version.first == 1
            else "train again with `graphdiff train`, since version 1 is no longer there"
        )
        raise RunError(
            f"{folder} holds version {config.version.number} of its model, which was changed after "
            "training, so that its test pairs may be among what it learned; compare models over "
            f"time with `graphdiff backtest`, or {remedy}"
        )
    model = load_model(folder, Recommender)  # type: ignore[type-abstract]
    return model, _load_data(folder, config, root)


def check_dataset(folder: Path, config: RunConfig, data: HeteroData) -> None:
    """Check that ``data`` is what the RUN was trained on.

    Raises:
        RunError: If it is not, with both fingerprints.
    """
    expected, found = config.dataset.fingerprint, fingerprint(data)
    if found != expected:
        raise RunError(
            f"{folder} was trained on other data: its fingerprint is {expected}, this data's is "
            f"{found}; give the dataset's folder with --root, or train again"
        )


def _check_before_training(data: HeteroData, config: RunConfig) -> None:
    check_training(data, config.training)
    check_evaluation(data, "test", mask_validation=config.evaluation.mask_validation)


def _save_encoders(dataset: datasets.RecDataset, folder: Path) -> None:
    for modality, encoder in dataset.text_encoders().items():
        make_folder(folder / ENCODERS)
        encoder.save(encoder_file(folder, modality))


def _in_words(data: HeteroData) -> str:
    interactions = data[INTERACTS]
    return (
        f"{data[USER].num_nodes:,} users, {data[ITEM].num_nodes:,} items, "
        f"{interactions.edge_index.size(1):,} training interactions "
        f"{'with' if TIME in interactions else 'without'} times; features: "
        f"{', '.join(modalities(data)) or 'none'}"
    )


def _fit_and_test(
    folder: Path,
    recommender: Recommender,
    data: HeteroData,
    config: RunConfig,
    *,
    resume: bool,
    progress: bool,
) -> dict[str, Any]:
    if progress and is_main():
        print_status(_in_words(data))
    fitted = fit(recommender, data, config.training, out=folder, resume=resume, progress=progress)
    if not is_main():
        return {}
    mask_validation = config.evaluation.mask_validation
    results = {
        "model": type(recommender).__name__,
        "dataset": config.dataset.name,
        "parameters": recommender.num_parameters(),
        **{key: value for key, value in fitted.to_dict().items() if key != "history"},
        "masked": describe_masking(mask_validation),
        "test": evaluate(recommender, data, "test", mask_validation=mask_validation),
    }
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def _new_model(folder: Path, config: RunConfig, data: HeteroData) -> Recommender:
    try:
        cls = saved_class(config.model.name, config.model.module)
        return cls.from_data(data, **config.model.settings)
    except (ConfigError, TypeError) as error:
        raise RunError(f"{folder / CONFIG}: {error}") from None


def _load_data(folder: Path, config: RunConfig, root: Path | None) -> HeteroData:
    section = config.dataset
    where = root if root is not None else section.root
    data = datasets.load(section.name, where, import_module=False, **section.options)[0]
    check_dataset(folder, config, data)
    return data
