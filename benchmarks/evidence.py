"""What each test user got from each model: the sample that statistics are made of.

The values are too many for the JSON of a comparison. They stand beside it in a file of their own,
``NAME.users.safetensors`` beside ``NAME.json``: ``user``, int64 ``[n]``, and for each finished cell
``MODEL/SEED/METRIC``, float32 ``[n]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from protocol import EVIDENCE
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from graphdiff.errors import DataError
from graphdiff.evaluation.significance import compare_models
from graphdiff.files import write_bytes

RESAMPLES, CONFIDENCE, BOOTSTRAP_SEED = 10_000, 0.95, 0


class UserValues:
    """Per-user values of the finished cells of a comparison.

    Args:
        path: Their file.
        fingerprint: Name of the data; values of other data are not read.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.arrays: dict[str, np.ndarray] = {}

    @staticmethod
    def path_beside(out: Path) -> Path:
        """Where the values of a comparison are kept whose JSON is ``out``."""
        return out.with_suffix(".users.safetensors")

    def load(self) -> None:
        """Reads what is there; nothing where there is no file, or one of other data.

        Raises:
            DataError: If the file is damaged.
        """
        if not self.path.exists():
            return
        try:
            with safe_open(self.path, framework="numpy") as file:
                if (file.metadata() or {}).get("fingerprint") == self.fingerprint:
                    self.arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"{self.path} cannot be read ({error}); delete it, and what it held stays untested"
            ) from None

    def save(self) -> None:
        """Writes the file atomically."""
        write_bytes(self.path, save(self.arrays, metadata={"fingerprint": self.fingerprint}))

    def add(self, model: str, seed: int, users: Mapping[str, np.ndarray]) -> None:
        """Takes the values of a cell, in place of earlier ones."""
        self.arrays["user"] = users["user"]
        for metric in EVIDENCE:
            self.arrays[f"{model}/{seed}/{metric}"] = users[metric]

    def of(self, model: str, cell: Mapping[str, Any], metric: str) -> np.ndarray | None:
        """The values of a cell, float64 ``[n]``; None where there are none that belong to it."""
        values = self.arrays.get(f"{model}/{cell['seed']}/{metric}")
        # Values of another training, after a stop between two writes, have another mean.
        if values is None or not np.isclose(
            values.mean(dtype=np.float64), cell["test"][metric], rtol=1e-9
        ):
            return None
        return values.astype(np.float64)


def statistics(models: Mapping[str, Any], users: UserValues) -> dict[str, Any]:
    """Compares the models of a table user by user, mean over seeds.

    Returns:
        What was done, ``metrics``: per metric and model the fields of
        :class:`graphdiff.evaluation.significance.Comparison`, and ``left_out``: models without
        values of all their cells.
    """
    found: dict[str, dict[str, np.ndarray]] = {metric: {} for metric in EVIDENCE}
    left_out = []
    for name, entry in models.items():
        values = {m: [users.of(name, cell, m) for cell in entry["seeds"]] for m in EVIDENCE}
        if any(one is None for column in values.values() for one in column):
            left_out.append(name)
            continue
        for metric, column in values.items():
            found[metric][name] = np.mean(column, axis=0)
    if not found[EVIDENCE[0]]:
        return {}
    return {
        "sample": "test users, mean over seeds",
        "users": len(users.arrays["user"]),
        "tests": "paired t-test and Wilcoxon signed-rank against the best other model",
        "correction": "Holm, over the models",
        "interval": f"bootstrap over users, percentile, {CONFIDENCE:.0%}, {RESAMPLES} resamples",
        "left_out": left_out,
        "metrics": {
            metric: {
                name: asdict(one)
                for name, one in compare_models(
                    values, RESAMPLES, CONFIDENCE, BOOTSTRAP_SEED
                ).items()
            }
            for metric, values in found.items()
        },
    }
