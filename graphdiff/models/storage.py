"""A model as a folder: ``config.yaml``, ``model.safetensors`` and, with raw ids, ``ids.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from graphdiff.errors import ConfigError, RunError
from graphdiff.files import make_folder, write_bytes
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import Recommender
from graphdiff.models.registry import get_model

CONFIG, WEIGHTS, IDS = "config.yaml", "model.safetensors", "ids.json"
M = TypeVar("M", bound=Recommender)


def save_model(model: Recommender, folder: Path) -> None:
    """Writes a model into ``folder``, each file whole or not at all.

    Other sections of a ``config.yaml`` that is already there are kept.
    """
    make_folder(folder)
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    metadata = {"model": type(model).__name__, "num_items": str(model.num_items)}
    write_bytes(folder / WEIGHTS, save(tensors, metadata))
    catalogue = model.catalogue
    if catalogue.user_ids is not None or catalogue.item_ids is not None:
        ids = {"user": catalogue.user_ids, "item": catalogue.item_ids}
        write_bytes(folder / IDS, json.dumps(ids).encode())
    update_config(
        folder, {"model": {"name": type(model).__name__, "settings": model.config.model_dump()}}
    )


def update_config(folder: Path, sections: dict[str, object]) -> None:
    """Sets sections of ``folder/config.yaml`` and keeps the others."""
    path = folder / CONFIG
    config = (_read_sections(path) if path.exists() else {}) | sections
    write_bytes(path, yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())


def read_config(folder: Path) -> dict[str, dict]:
    """The sections of ``folder/config.yaml``.

    Raises:
        RunError: If there is no such file, or it holds no settings.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise RunError(
            f"{folder} is not a RUN folder: it has no {CONFIG}; "
            f"give a folder written by `graphdiff train --out`"
        )
    config = _read_sections(path)
    if "model" not in config:
        raise RunError(f"{path} has no section 'model'; expected name and settings of a model")
    return config


def _read_sections(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is not readable YAML: {error}") from None
    if not (isinstance(config, dict) and all(isinstance(one, dict) for one in config.values())):
        raise RunError(f"{path} does not hold sections with settings; expected model: and others")
    return config


def load_model(folder: Path, expected: type[M]) -> M:
    """Reads a model from ``folder``; see :meth:`Recommender.from_pretrained`."""
    section = read_config(folder)["model"]
    settings = section.get("settings") or {}
    if not (isinstance(settings, dict) and all(isinstance(name, str) for name in settings)):
        raise RunError(f"{folder / CONFIG}: settings are not name: value lines")
    try:
        cls = get_model(str(section.get("name")))
        config = cls.configure(**settings)
    except ConfigError as error:
        raise RunError(f"{folder / CONFIG}: {error}") from None
    if not issubclass(cls, expected):
        raise RunError(f"{folder} holds a {cls.__name__}, not a {expected.__name__}")
    path = folder / WEIGHTS
    if not path.is_file():
        raise RunError(
            f"{folder} has no {WEIGHTS}; was the training cut off before its first epoch?"
        )
    try:
        with safe_open(path, framework="pt") as file:
            num_items = int((file.metadata() or {})["num_items"])
            # Copies lie in memory as a trained model's tensors do; at another alignment a product
            # may round otherwise.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        prefix = "graph."
        graph = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        model = cls(config, RecGraph.from_tensors(graph, num_items))
        model.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, RuntimeError, IndexError, TypeError) as error:
        raise RunError(
            f"{path} does not hold the weights that {CONFIG} describes: {error}"
        ) from None
    if (folder / IDS).is_file():
        user_ids, item_ids = _read_ids(folder / IDS, model)
        model.catalogue.user_ids, model.catalogue.item_ids = user_ids, item_ids
    return model.eval()


def _read_ids(path: Path, model: Recommender) -> tuple[list[Any] | None, list[Any] | None]:
    try:
        ids = json.loads(path.read_bytes())
        found = ids["user"], ids["item"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path} does not hold raw ids: {error}") from None
    for node, known, size in zip(
        ("user", "item"), found, (model.num_users, model.num_items), strict=True
    ):
        if known is not None and not (isinstance(known, list) and len(known) == size):
            raise RunError(f"{path} does not hold one raw id for each of the {size} {node}s")
    return found
