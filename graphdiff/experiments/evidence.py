"""Metrics of each test user under each model: the sample that significance tests are made of.

The values are too many for the JSON of a comparison. They are kept beside it in a file of their
own, ``NAME.users.safetensors`` beside ``NAME.json``: ``user``, int64 ``[n]``, and for each finished
cell ``MODEL/SEED/METRIC``, float32 ``[n]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from graphdiff.errors import DataError
from graphdiff.evaluation.significance import compare_models, rounded_differences
from graphdiff.experiments.measure import EVIDENCE
from graphdiff.files import write_bytes

RESAMPLES, CONFIDENCE, BOOTSTRAP_SEED = 10_000, 0.95, 0
#: Edges of the histograms of differences between two models; metrics are from 0 to 1.
GAINS = tuple(round(one / 10, 1) for one in range(-10, 11))


class UserValues:
    """Per-user values of the finished cells of a comparison.

    Args:
        path: Their file; None keeps them in memory only.
        fingerprint: Fingerprint of the data; values of other data are not read.
        *others: Fingerprints of data whose values are read, too.
    """

    def __init__(self, path: Path | None, fingerprint: str, *others: str) -> None:
        self.path, self.fingerprint, self.read = path, fingerprint, (fingerprint, *others)
        self.arrays: dict[str, np.ndarray] = {}

    @staticmethod
    def path_beside(out: Path) -> Path:
        """Return the file of the values of the comparison whose JSON file is ``out``."""
        return out.with_suffix(".users.safetensors")

    def load(self) -> None:
        """Read the file; nothing where there is none, or one of other data.

        Raises:
            DataError: If the file is damaged.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            with safe_open(self.path, framework="numpy") as file:
                if (file.metadata() or {}).get("fingerprint") in self.read:
                    self.arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"{self.path} cannot be read ({error}); delete it, and the models in it are left "
                "out of the significance tests"
            ) from None

    def save(self) -> None:
        """Write the file, atomically."""
        if self.path is not None and self.arrays:
            write_bytes(self.path, save(self.arrays, metadata={"fingerprint": self.fingerprint}))

    def add(self, model: str, seed: int, users: Mapping[str, np.ndarray]) -> None:
        """Add the values of a cell, in place of earlier ones."""
        self.arrays["user"] = users["user"]
        for metric in EVIDENCE:
            self.arrays[f"{model}/{seed}/{metric}"] = users[metric]

    def of(self, model: str, cell: Mapping[str, Any], metric: str) -> np.ndarray | None:
        """Return the values of a cell, float64 ``[n]``; None where there are none of this cell."""
        values = self.arrays.get(f"{model}/{cell['seed']}/{metric}")
        # Values of another training, after a stop between two writes, have another mean.
        if values is None or not np.isclose(
            values.mean(dtype=np.float64), cell["test"][metric], rtol=1e-9
        ):
            return None
        return values.astype(np.float64)


def statistics(models: Mapping[str, Any], users: UserValues) -> dict[str, Any]:
    """Compare the models of a table user by user, by the mean over seeds.

    Returns:
        What was tested and how; ``metrics``: per metric and model the fields of
        :class:`graphdiff.evaluation.significance.Comparison`; ``gains``: likewise :func:`gains`
        over the rival; and ``left_out``: models without values of all their cells.
    """
    found: dict[str, dict[str, np.ndarray]] = {metric: {} for metric in EVIDENCE}
    left_out = []
    for name, entry in models.items():
        values = {metric: _averaged(users, name, entry["seeds"], metric) for metric in EVIDENCE}
        if any(one is None for one in values.values()):
            left_out.append(name)
            continue
        for metric, one in values.items():
            if one is not None:
                found[metric][name] = one
    if not found[EVIDENCE[0]]:
        return {}
    compared = {
        metric: compare_models(values, RESAMPLES, CONFIDENCE, BOOTSTRAP_SEED)
        for metric, values in found.items()
    }
    return {
        "sample": "test users, mean over seeds",
        "users": len(users.arrays["user"]),
        "tests": "paired t-test and Wilcoxon signed-rank against the best other model",
        "correction": "Holm, over the models",
        "interval": f"bootstrap over users, percentile, {CONFIDENCE:.0%}, {RESAMPLES} resamples",
        "left_out": left_out,
        "metrics": {
            metric: {name: asdict(one) for name, one in models.items()}
            for metric, models in compared.items()
        },
        "gains": {
            metric: {
                name: {"rival": one.rival, **gains(found[metric][name], found[metric][one.rival])}
                for name, one in models.items()
                if one.rival is not None
            }
            for metric, models in compared.items()
        },
    }


def gains(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Return how the users of two models differ.

    Args:
        a: Values of one model, float64 ``[n]``.
        b: Values of another on the same users, float64 ``[n]``.

    Returns:
        ``better``, ``equal`` and ``worse``: numbers of users; ``counts``: users by ``a - b``
        between the edges :data:`GAINS`, without those that are equal.

    Example:
        >>> found = gains(np.array([1.0, 0.5, 0.5]), np.array([0.0, 0.5, 0.55]))
        >>> found["better"], found["equal"], found["worse"], sum(found["counts"])
        (1, 1, 1, 2)
    """
    difference = rounded_differences(a, b)
    changed = difference[difference != 0]
    return {
        "better": int((changed > 0).sum()),
        "equal": int(difference.size - changed.size),
        "worse": int((changed < 0).sum()),
        "counts": np.histogram(changed, GAINS)[0].tolist(),
    }


def _averaged(
    users: UserValues, name: str, cells: list[dict[str, Any]], metric: str
) -> np.ndarray | None:
    """Return the mean over a model's cells, ``[n]``; None where a cell has no values."""
    values = [users.of(name, cell, metric) for cell in cells]
    known = [one for one in values if one is not None]
    return np.mean(known, axis=0) if len(known) == len(values) else None
