"""Settings by the size of the data."""

from __future__ import annotations

from typing import Any, NamedTuple

from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.config import LD4MRecConfig, LinearPathConfig


class Size(NamedTuple):
    """Sizes of a model.

    Attributes:
        width: ``hidden_channels``.
        heads: ``num_heads``.
        negatives: ``objective.num_negatives``.
        directions: ``content_rank``.
    """

    width: int
    heads: int
    negatives: int
    directions: int


#: Largest number of items, and the sizes up to it. A training holds about ten tables of items by
#: width: 1 GiB of them at 100,000 items, 5 GiB at a million; features are one more, as wide as
#: their directions.
SIZES = ((100_000, Size(256, 4, 2048, 256)), (1_000_000, Size(128, 2, 2048, 64)))
#: Sizes of larger catalogues.
LARGEST = Size(64, 2, 4096, 64)
#: Interactions of a user, on average, from which on there is a linear path, and the largest number
#: of items with one, since the decomposition of the item graph takes K columns. Where rows are
#: shorter, features and neighbours matter more than the row's own items.
LONG_ROWS, MOST_ITEMS = 10, 100_000
#: Largest number of items with the K of the settings, whose columns take 100 MiB there, and K of
#: larger catalogues. A large sparse item graph needs many (``docs/lab-notes/dense-data.md``).
FULL_RANK_ITEMS, LARGE_RANK = 25_000, 255


def size_for(num_items: int) -> Size:
    """Return the default sizes for a number of items.

    Fewer negatives lost accuracy even with 1,200 items, and saved little time
    (``docs/lab-notes/speed.md``). So it is the memory of large catalogues that reduces the width,
    and small ones have the sizes of the settings.

    Example:
        >>> size_for(5_000_000)
        Size(width=64, heads=2, negatives=4096, directions=64)
    """
    return next((size for most, size in SIZES if num_items <= most), LARGEST)


def with_sizes(config: LD4MRecConfig, graph: RecGraph) -> LD4MRecConfig:
    """Return settings with what the size of the data decides, where it was not set.

    The model is stored with them: it keeps its parts when updates change the size of the data.
    Width and heads go together: where one of them is set, both stay as they are.
    """
    size = size_for(graph.num_items)
    changes: dict[str, Any] = {}
    if not config.model_fields_set & {"hidden_channels", "num_heads"}:
        changes = {"hidden_channels": size.width, "num_heads": size.heads}
    if "content_rank" not in config.model_fields_set:
        changes["content_rank"] = size.directions
    objective = config.objective
    if "num_negatives" not in objective.model_fields_set:
        objective = objective.model_copy(update={"num_negatives": size.negatives})
    changes |= {"objective": objective, "linear_path": _linear_path(config.linear_path, graph)}
    return config.model_copy(update=changes)


def _linear_path(settings: LinearPathConfig, graph: RecGraph) -> LinearPathConfig:
    enabled, rank = settings.enabled, settings.rank
    if enabled is None:
        long = graph.num_interactions >= LONG_ROWS * graph.num_users
        enabled = long and graph.num_items <= MOST_ITEMS
    if "rank" not in settings.model_fields_set:
        rank = rank if graph.num_items <= FULL_RANK_ITEMS else LARGE_RANK
        rank = max(1, min(rank, graph.num_users, graph.num_items))
    return settings.model_copy(update={"enabled": enabled, "rank": rank})
