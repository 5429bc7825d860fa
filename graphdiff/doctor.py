"""Check of the installation: packages, devices, and a tiny model."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

import torch
from packaging.requirements import Requirement


class Finding(NamedTuple):
    """Result of one check."""

    component: str
    found: str
    ok: bool
    needed: bool


def examine() -> list[Finding]:
    """Check Python, every declared dependency, the devices, and a tiny model."""
    findings = [Finding("python", platform.python_version(), True, True)]
    for line in requires("graphdiff") or []:
        requirement = Requirement(line)
        extra = requirement.marker is not None and "extra" in str(requirement.marker)
        if extra and "sparse" not in str(requirement.marker):
            continue
        findings.append(_package(requirement, needed=not extra))
    findings.append(_device("cuda", torch.cuda.is_available()))
    findings.append(_device("mps", torch.backends.mps.is_available()))
    findings.append(_tiny_model())
    return findings


def _package(requirement: Requirement, needed: bool) -> Finding:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        wanted = f"not installed, wants {requirement.specifier}"
        return Finding(requirement.name, wanted, False, needed)
    fits = requirement.specifier.contains(found, prereleases=True)
    text = found if fits else f"{found}, wants {requirement.specifier}"
    return Finding(requirement.name, text, fits, needed)


def _device(kind: str, there: bool) -> Finding:
    name = torch.cuda.get_device_name() if there and kind == "cuda" else kind
    return Finding(f"device {kind}", name if there else "none", there, needed=False)


def _tiny_model() -> Finding:
    """Train a small model for one epoch and recommend with it."""
    from graphdiff import LD4MRec, fit
    from graphdiff.datasets import SyntheticMultimedia

    try:
        data = SyntheticMultimedia(seed=0, num_users=60, num_items=40)[0]
        model = LD4MRec.from_data(data, hidden_channels=8)
        fit(model, data, epochs=1, progress=False)
        items, _ = model.recommend(0, k=5)
    except Exception as error:
        return Finding("train and recommend", f"{type(error).__name__}: {error}", False, True)
    return Finding("train and recommend", f"{items.numel()} items", items.numel() == 5, True)
