"""A model as a folder: ``config.yaml``, ``model.safetensors`` and, with raw ids, ``ids.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from graphdiff.errors import ConfigError, RunError
from graphdiff.files import make_folder, write_bytes
from graphdiff.models.base import Recommender
from graphdiff.models.registry import get_model
from graphdiff.nn.graph import RecGraph

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
    if model.user_ids is not None or model.item_ids is not None:
        ids = {"user": model.user_ids, "item": model.item_ids}
        write_bytes(folder / IDS, json.dumps(ids).encode())
    update_config(
        folder, {"model": {"name": type(model).__name__, "settings": model.config.model_dump()}}
    )


def update_config(folder: Path, sections: dict[str, object]) -> None:
    """Sets sections of ``folder/config.yaml`` and keeps the others."""
    path = folder / CONFIG
    config = yaml.safe_load(path.read_text()) if path.exists() else {}
    config.update(sections)
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
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not readable YAML: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise RunError(f"{path} has no section 'model'; expected name and settings of a model")
    return config


def load_model(folder: Path, expected: type[M]) -> M:
    """Reads a model from ``folder``; see :meth:`Recommender.from_pretrained`."""
    section = read_config(folder)["model"]
    try:
        cls = get_model(str(section.get("name")))
        config = cls.configure(**section.get("settings", {}))
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
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        prefix = "graph."
        graph = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        model = cls(config, RecGraph.from_tensors(graph, num_items))
        model.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise RunError(
            f"{path} does not hold the weights that {CONFIG} describes: {error}"
        ) from None
    if (folder / IDS).is_file():
        ids = json.loads((folder / IDS).read_text())
        model.user_ids, model.item_ids = ids["user"], ids["item"]
    return model.eval()
