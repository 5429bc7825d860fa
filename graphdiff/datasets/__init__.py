"""Datasets: each is a PyG ``InMemoryDataset`` whose ``[0]`` is one ``HeteroData``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.mmrec import MMRec
from graphdiff.datasets.movielens import MovieLens1M
from graphdiff.datasets.synthetic import SyntheticMultimedia, true_preference
from graphdiff.datasets.tiktok import TikTok
from graphdiff.errors import ConfigError, DataError

__all__ = [
    "REGISTRY",
    "MMRec",
    "MovieLens1M",
    "RecDataset",
    "SyntheticMultimedia",
    "TikTok",
    "load",
    "true_preference",
]

#: Datasets by the name under which the command line knows them.
REGISTRY: dict[str, type[RecDataset]] = {
    "ml-1m-clean": MovieLens1M,
    "ml-1m-noisy": MovieLens1M,
    "mmrec": MMRec,
    "synthetic": SyntheticMultimedia,
    "tiktok": TikTok,
}

#: Arguments that a name stands for, beside its class.
_MEANT: dict[str, dict[str, Any]] = {
    "ml-1m-clean": {"variant": "clean"},
    "ml-1m-noisy": {"variant": "noisy"},
}


def load(name: str, root: str | Path | None = None, **kwargs: Any) -> RecDataset:
    """Opens a dataset by name.

    Args:
        name: A key of :data:`REGISTRY`, in any case.
        root: Folder of the dataset; one that is made rather than read needs none.
        **kwargs: Further arguments of the dataset's class, such as ``transform``.

    Returns:
        The dataset; its graph is ``load(name)[0]``.

    Raises:
        ConfigError: If there is no such dataset.
        DataError: If ``root`` is needed and missing, or what is there cannot be read.
    """
    dataset = REGISTRY.get(name.lower())
    if dataset is None:
        raise ConfigError(f"there is no dataset {name!r}; there are {', '.join(sorted(REGISTRY))}")
    if dataset.needs_root and root is None:
        raise DataError(
            f"the dataset {name!r} is read from files; give the folder that holds them (root, or "
            "--root on the command line)"
        )
    meant = _MEANT.get(name.lower(), {})
    known = set(inspect.signature(dataset).parameters) - set(meant)
    for name_ in kwargs:
        if name_ not in known:
            raise ConfigError(f"the dataset {name!r} takes no argument {name_!r}")
    return dataset(root=root, **meant, **kwargs)
