"""A RUN: one training with its data, settings, weights and results, as a folder.

======================  ====================================================================
``config.yaml``         sections ``model``, ``dataset`` and ``training``
``model.safetensors``   weights and graph of the best epoch so far
``ids.json``            raw ids, where the data has them
``metrics.csv``         one line per validated epoch
``results.json``        what training did, and the metrics on validation and test
``checkpoints/``        the last epoch, to resume from
======================  ====================================================================
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from graphdiff import datasets
from graphdiff.errors import RunError
from graphdiff.evaluation import evaluate
from graphdiff.files import write_text
from graphdiff.models.base import Recommender
from graphdiff.models.registry import get_model
from graphdiff.models.storage import load_model, read_config, update_config
from graphdiff.schema import fingerprint
from graphdiff.training import fit


def train_run(
    folder: Path,
    dataset: str,
    model: str,
    root: Path | None = None,
    settings: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    mask_validation: bool = False,
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
        **training: Arguments of :func:`graphdiff.fit`.

    Returns:
        The content of ``results.json``.

    Raises:
        RunError: If a training that is to be resumed was begun on other data.
    """
    cls = get_model(model)
    data = datasets.load(dataset, root, **(options or {}))[0]
    resume = bool(training.get("resume"))
    if resume:
        config = read_config(folder)
        check_dataset(folder, config, data)
        # A resumed run goes on as it was begun.
        settings = config["model"]["settings"]
        cls = get_model(config["model"]["name"])
    recommender = cls.from_data(data, **(settings or {}))
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in training.items() if name not in ("resume", "progress")}
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
            "training": {**kept, "mask_validation": mask_validation},
        },
    )
    fitted = fit(recommender, data, out=folder, **training)
    results = {
        "model": cls.__name__,
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
    section = config.get("dataset")
    if not isinstance(section, dict) or "name" not in section:
        raise RunError(f"{folder} has no section 'dataset' in its config.yaml; is it a RUN folder?")
    model = load_model(folder, Recommender)  # type: ignore[type-abstract]
    where = root if root is not None else section.get("root")
    data = datasets.load(section["name"], where, **(section.get("options") or {}))[0]
    check_dataset(folder, config, data)
    return model, data


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
