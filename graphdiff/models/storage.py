"""A model as a folder: ``config.yaml``, ``model.safetensors``, and where there are any raw ids in
``ids.json`` and the items' titles, categories and image addresses in ``items.json``.

``config.yaml`` holds the SHA-256 digests of the other files, and writing it is the commit: the new
files are first written beside the old ones under staged names, then ``config.yaml`` is replaced,
then the staged files are renamed. Whenever a process is killed, every file that ``config.yaml``
names is there, under its own name or its staged name. Files of two models are never read together.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from graphdiff.errors import ConfigError, DataError, RunError
from graphdiff.files import make_folder, write_bytes
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import Recommender
from graphdiff.models.registry import saved_class
from graphdiff.schema import ItemDetails

CONFIG, WEIGHTS, IDS, ITEMS = "config.yaml", "model.safetensors", "ids.json", "items.json"
#: Suffix of a file that is complete but does not have its own name yet.
STAGED = ".staged"
#: What the names of a graph's tensors begin with.
_GRAPH = "graph."
M = TypeVar("M", bound=Recommender)


def save_model(model: Recommender, folder: Path) -> None:
    """Write a model into ``folder``; a model that is already there is replaced as a whole.

    Other sections of an existing ``config.yaml`` are kept.

    Raises:
        StorageError: If the folder cannot be written to.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    # One entry: the order of several is not fixed, and the same model has one digest.
    contents = {WEIGHTS: save(tensors, {"num_items": str(model.num_items)})}
    catalogue = model.catalogue
    if catalogue.user_ids is not None or catalogue.item_ids is not None:
        ids = {"user": catalogue.user_ids, "item": catalogue.item_ids}
        contents[IDS] = json.dumps(ids).encode()
    if catalogue.details:
        contents[ITEMS] = json.dumps(catalogue.details.columns).encode()
    _commit(folder, contents, {"model": describe_model(model)})


def copy_model(source: Path, folder: Path, sections: dict[str, object]) -> None:
    """Write the model of the folder ``source`` into ``folder``, as :func:`save_model` does, and
    replace ``sections`` of its ``config.yaml`` in the same step.

    Raises:
        RunError: If ``source`` holds no whole model.
        StorageError: If ``folder`` cannot be written to.
    """
    section = read_config(source)["model"]
    files = _committed_files(source, section.get("files"))
    contents = {name: path.read_bytes() for name, path in files.items()}
    _commit(folder, contents, {"model": section, **sections})


def finish_model(folder: Path) -> None:
    """Complete what a process was killed at after it had committed a model to ``folder``."""
    digests = read_config(folder)["model"].get("files")
    if digests:
        _finish(folder, digests)


def _commit(folder: Path, contents: dict[str, bytes], sections: dict[str, Any]) -> None:
    """Write the files of a model and the sections of its ``config.yaml``."""
    make_folder(folder)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    for name, content in contents.items():
        # Raw ids and titles stay the same during a training.
        if not _holds(folder / name, digests[name]):
            write_bytes(_staged(folder, name, digests[name]), content)
    update_config(folder, {**sections, "model": {**sections["model"], "files": digests}})
    _finish(folder, digests)


def describe_model(model: Recommender) -> dict[str, Any]:
    """Return the section ``model`` of ``config.yaml``, without the digests of files."""
    section = {
        "name": type(model).__name__,
        "module": type(model).__module__,
        "settings": model.config.model_dump(mode="json"),
    }
    parts = model.describe_parts()
    return {**section, "parts": parts} if parts else section


def update_config(folder: Path, sections: dict[str, object]) -> None:
    """Replace sections of ``folder/config.yaml`` and keep the others."""
    path = folder / CONFIG
    config = (_read_sections(path) if path.exists() else {}) | sections
    write_bytes(path, yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())


def read_config(folder: Path) -> dict[str, dict]:
    """Return the sections of ``folder/config.yaml``.

    Raises:
        RunError: If there is no such file, or it has no section ``model``.
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


def load_model(
    folder: Path, expected: type[M], parts: Mapping[str, torch.nn.Module] | None = None
) -> M:
    """Read a model from ``folder``; see :meth:`Recommender.from_pretrained`."""
    section = read_config(folder)["model"]
    while True:
        try:
            return _load(folder, section, expected, parts or {})
        except RunError:
            # A training may have replaced the model meanwhile; then the new one is read.
            previous, section = section, read_config(folder)["model"]
            if section == previous:
                raise


def file_digest(path: Path) -> str:
    """Return the SHA-256 digest of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(
    folder: Path, section: dict[str, Any], expected: type[M], given: Mapping[str, torch.nn.Module]
) -> M:
    settings, parts = section.get("settings") or {}, section.get("parts") or {}
    for value in (settings, parts):
        if not (isinstance(value, dict) and all(isinstance(name, str) for name in value)):
            raise RunError(f"{folder / CONFIG}: settings are not name: value lines")
    name, module = section.get("name"), section.get("module")
    try:
        cls = saved_class(str(name), None if module is None else str(module), expected)
        config = cls.configure(**settings)
    except ConfigError as error:
        raise RunError(f"{folder / CONFIG}: {error}") from None
    if not issubclass(cls, expected):
        raise RunError(f"{folder} holds a {cls.__name__}, not a {expected.__name__}")
    files = _committed_files(folder, section.get("files"))
    path = files[WEIGHTS]
    try:
        with safe_open(path, framework="pt") as file:
            num_items = int((file.metadata() or {})["num_items"])
            # Copies lie in memory as a trained model's tensors do; at another alignment a product
            # may round otherwise.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        graph = {n.removeprefix(_GRAPH): t for n, t in tensors.items() if n.startswith(_GRAPH)}
        model = cls.rebuild(config, RecGraph.from_tensors(graph, num_items), parts, given)
        _take_precision(model, tensors)
        model.load_state_dict(tensors)
    except ConfigError as error:
        raise RunError(f"{folder / CONFIG}: {error}") from None
    except (
        SafetensorError, KeyError, ValueError, RuntimeError, IndexError, TypeError, OSError
    ) as error:  # fmt: skip
        raise RunError(
            f"{path} does not hold the weights that {CONFIG} describes: {error}; if the folder was "
            "written by another version of graphdiff, train the model again with this one"
        ) from None
    if IDS in files:
        _read_ids(files[IDS], model)
    if ITEMS in files:
        _read_details(files[ITEMS], model)
    return model.eval()


def _take_precision(model: Recommender, tensors: Mapping[str, torch.Tensor]) -> None:
    """Make a model double where its saved parameters are, except for what was saved in another
    type, such as a part of its graph. Models without parameters have learned buffers instead."""
    parameters = [name for name, _ in model.named_parameters() if name in tensors]
    learned = parameters or [name for name in tensors if not name.startswith(_GRAPH)]
    if not any(tensors[name].dtype == torch.float64 for name in learned):
        return
    model.double()
    for name, own in model.state_dict(keep_vars=True).items():
        saved = tensors.get(name, own)
        if own.is_floating_point() and saved.is_floating_point():
            own.data = own.data.to(saved.dtype)


def _committed_files(folder: Path, digests: Any) -> dict[str, Path]:
    """Return where the files are that ``config.yaml`` names, each with the right content.

    Raises:
        RunError: If a file is missing or has other content.
    """
    if not digests:
        if (folder / WEIGHTS).is_file():
            raise RunError(
                f"{folder / CONFIG} has no digest of {WEIGHTS}, so the two may not belong "
                "together; save the model again"
            )
        raise RunError(
            f"{folder} has no {WEIGHTS}; was the training cut off before its first epoch?"
        )
    names = set(digests) if isinstance(digests, dict) else set()
    known = {WEIGHTS, IDS, ITEMS}
    if not (WEIGHTS in names <= known and all(map(_is_digest, digests.values()))):
        raise RunError(
            f"{folder / CONFIG}: files are {digests!r}; expected digests of {WEIGHTS}, {IDS} and "
            f"{ITEMS}"
        )
    return {name: _committed_file(folder, name, digest) for name, digest in digests.items()}


def _committed_file(folder: Path, name: str, digest: str) -> Path:
    path, staged = folder / name, _staged(folder, name, digest)
    # In this order: the staged file is renamed to the other while a process finishes saving.
    for one in (staged, path):
        if _holds(one, digest):
            return one
    if not path.is_file():
        raise RunError(
            f"{folder} has no {name}, which {CONFIG} names; copy the whole folder, or save the "
            "model again"
        )
    raise RunError(
        f"{path} is not the file that {CONFIG} belongs to: its SHA-256 digest is "
        f"{file_digest(path)[:12]}…, expected {digest[:12]}…; copy all files of a model together, "
        "or save the model again"
    )


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _holds(path: Path, digest: str) -> bool:
    try:
        return file_digest(path) == digest
    except OSError:
        return False


def _staged(folder: Path, name: str, digest: str) -> Path:
    return folder / f".{name}.{digest[:16]}{STAGED}"


def _finish(folder: Path, digests: dict[str, str]) -> None:
    """Rename the staged files of the committed model, and remove what is left of others."""
    for name, digest in digests.items():
        staged = _staged(folder, name, digest)
        if staged.exists():
            os.replace(staged, folder / name)
    for name in {IDS, ITEMS} - set(digests):
        (folder / name).unlink(missing_ok=True)
    for left in folder.glob(f".*{STAGED}"):
        left.unlink(missing_ok=True)


def _read_sections(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is not readable YAML: {error}") from None
    if not (isinstance(config, dict) and all(isinstance(one, dict) for one in config.values())):
        raise RunError(f"{path} does not hold sections with settings; expected model: and others")
    return config


def _read_ids(path: Path, model: Recommender) -> None:
    try:
        ids = json.loads(path.read_bytes())
        found = [ids["user"], ids["item"]]
        if not all(one is None or isinstance(one, list) for one in found) or found == [None, None]:
            raise DataError("expected a list of ids for users, items or both")
        model.catalogue.user_ids, model.catalogue.item_ids = found
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        reason = error if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        raise RunError(f"{path} does not hold the raw ids of this model: {reason}") from None


def _read_details(path: Path, model: Recommender) -> None:
    try:
        columns = json.loads(path.read_bytes())
        if not isinstance(columns, dict):
            raise DataError("expected a list of texts for title, category or image")
        model.catalogue.details = ItemDetails(model.num_items, columns)
    except (ValueError, RecursionError, OSError) as error:
        reason = error if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        raise RunError(
            f"{path} does not hold titles, categories or images of this model's items: {reason}"
        ) from None
