"""Results on the terminal."""

from __future__ import annotations

from graphdiff.console import print_table, print_text


def print_metrics(splits: dict[str, dict[str, float]], masked: str | None = None) -> None:
    """Print a table of metrics, one column per split.

    Args:
        splits: Metrics of each split.
        masked: Items that the test ranking masks, or None where there is no test.
    """
    names = dict.fromkeys(name for metrics in splits.values() for name in metrics)
    print_table(
        ["metric", *splits],
        [[name, *(_shown(metrics.get(name)) for metrics in splits.values())] for name in names],
    )
    if masked is not None:
        print_text(f"test ranking over the whole catalogue, {masked} masked")


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
