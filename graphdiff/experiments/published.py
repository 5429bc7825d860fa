"""Figures that papers print, to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

PUBLISHED = Path(__file__).with_name("published.yaml")


class Published(NamedTuple):
    """Published figures on one dataset.

    Attributes:
        figures: By name of the model in the registry.
        references: Of models that graphdiff does not have.
        sources: References by key.
        note: What to know when comparing with them.
    """

    figures: dict[str, dict[str, Any]]
    references: list[dict[str, Any]]
    sources: dict[str, str]
    note: str

    def cited(self) -> list[str]:
        """Return the keys of the sources, in the order of their numbers."""
        everything = [*self.figures.values(), *self.references]
        return list(dict.fromkeys(one["source"] for one in everything))


def published(result: dict[str, Any]) -> Published:
    """Return published figures on the data of a comparison; none for a split of our own."""
    listed = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    found = listed.get(result["dataset"].lower(), {}) if "split" not in result["protocol"] else {}
    figures = found.get("figures", [])
    return Published(
        {one["model"]: one for one in figures if "model" in one},
        [one for one in figures if "model" not in one],
        listed["sources"],
        found.get("note", ""),
    )
