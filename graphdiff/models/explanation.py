"""Why an item is recommended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """One score, taken apart.

    Attributes:
        score: The score of the item.
        parts: What it is made of, by name; they sum to ``score``.
        gate: Per modality, how much the person leans on it.
        items: Items of the person by index and what each adds to the score, the most first.
    """

    score: float
    parts: dict[str, float]
    gate: dict[str, float]
    items: list[tuple[int, float]]
