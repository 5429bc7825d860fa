"""Check of the installation: packages, devices, and a tiny model."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

import torch
from packaging.requirements import Requirement

from graphdiff import __version__

#: Name under which graphdiff is distributed; it is imported as ``graphdiff``.
DISTRIBUTION = "graphdiff-rec"
#: Extras for the development of graphdiff itself.
DEVELOPMENT = {"test", "dev", "docs"}


class Finding(NamedTuple):
    """Result of one check.

    Attributes:
        component: Package, device or function that was checked.
        found: Its version, or what is wrong.
        ok: Whether it can be used.
        needed: Whether graphdiff needs it.
        extra: The extra that installs it; empty if none does.
    """

    component: str
    found: str
    ok: bool
    needed: bool
    extra: str = ""


def examine() -> list[Finding]:
    """Check Python, the declared dependencies with all extras, devices, and a tiny model."""
    findings = [
        Finding("graphdiff", __version__, True, True),
        Finding("python", platform.python_version(), True, True),
    ]
    findings += _packages()
    findings.append(_device("cuda", torch.cuda.is_available()))
    findings.append(_device("mps", torch.backends.mps.is_available()))
    findings.append(_tiny_model())
    return findings


def _packages() -> list[Finding]:
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        advice = "run from a folder; install it with: pip install ."
        return [Finding(f"distribution {DISTRIBUTION}", advice, False, needed=False)]
    findings = []
    for requirement in map(Requirement, lines):
        named = re.search(r"""extra == ['"]([\w.-]+)['"]""", str(requirement.marker or ""))
        extra = named[1] if named else ""
        if extra not in DEVELOPMENT and requirement.name != DISTRIBUTION:
            findings.append(_package(requirement, extra))
    return findings


def _package(requirement: Requirement, extra: str) -> Finding:
    needed = not extra
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        wanted = f"not installed, wants {requirement.specifier}"
        return Finding(requirement.name, wanted, False, needed, extra)
    fits = requirement.specifier.contains(found, prereleases=True)
    text = found if fits else f"{found}, wants {requirement.specifier}"
    return Finding(requirement.name, text, fits, needed, extra)


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
