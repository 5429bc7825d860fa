"""What GiffCF's diffused state carries: its parts removed at inference, one at a time.

    graphdiff train --dataset ml-1m-clean --root DIR --model giffcf --out RUN
    python benchmarks/giffcf_anatomy.py --dataset ml-1m-clean --root DIR --run RUN \
        --out anatomy.json --markdown anatomy.md

reads the weights of a trained GiffCF (graphdiff.models.GiffCF) and ranks validation items by each
variant of its inference; with --test, test items too. Nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import options as shared
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff import datasets
from graphdiff.errors import ConfigError, GraphDiffError
from graphdiff.evaluation.ranking import describe_masking, rank
from graphdiff.experiments.cells import read_results
from graphdiff.experiments.measure import EVIDENCE, KS
from graphdiff.experiments.protocol import MASKS_VALIDATION
from graphdiff.files import write_text
from graphdiff.models import GiffCF
from graphdiff.models.base import Query
from graphdiff.schema import fingerprint

#: From a model and its observed rows ``[B, I]`` to scores ``[B, I]``.
Inference = Callable[[GiffCF, Query], Tensor]


def chain(model: GiffCF, query: Query) -> Tensor:
    """Return the scores of the whole chain."""
    return model.scorer(query, model.tables())(0, model.num_items)


def one_step(state: Callable[[GiffCF, Tensor], Tensor], graph_score: bool = True) -> Inference:
    """Return an inference of one step at T, with a given diffused state, and with or without the
    graph score Ac at the output."""

    def scores(model: GiffCF, query: Query) -> Tensor:
        x = query.rows.dense(model.num_items).to(model.table.dtype)
        smoothed = model.smooth(x)
        t = torch.full((x.size(0),), model.config.num_steps, device=x.device)
        kept = smoothed if graph_score else torch.zeros_like(smoothed)
        return model.denoise(state(model, x), x, kept, t)

    return scores


def smoothed_row(model: GiffCF, x: Tensor) -> Tensor:
    """Return the rows at step T of the forward process, ``[B, I]``."""
    return x + model.config.smoothing * (model.smooth(x) - x)


def graph_score(model: GiffCF, query: Query) -> Tensor:
    """Return Ac."""
    return model.smooth(query.rows.dense(model.num_items).to(model.table.dtype))


VARIANTS: dict[str, Inference] = {
    "its chain": chain,
    "one step, z smoothed": one_step(smoothed_row),
    "one step, z = x (forward-free)": one_step(lambda model, x: x),
    "one step, z = 0 (diffused state removed)": one_step(lambda model, x: torch.zeros_like(x)),
    "graph score Ac removed": one_step(smoothed_row, graph_score=False),
    "graph score Ac alone": graph_score,
}


class Ranked:
    """A model that recommends by a variant of its inference; see
    :class:`graphdiff.evaluation.ranking.RecommendsItems`."""

    def __init__(self, model: GiffCF, inference: Inference) -> None:
        self.model, self.inference = model, inference

    @torch.no_grad()
    def recommend(
        self,
        user_index: Tensor,
        *,
        k: int,
        exclude_seen: bool = True,
        exclude_index: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the top-k items of each user."""
        rows = self.model.graph.rows(user_index)
        scores = self.inference(self.model, Query(rows, user_index)).clone()
        if exclude_seen:
            scores[rows.row, rows.item] = -torch.inf
        if exclude_index is not None:
            scores[exclude_index] = -torch.inf
        best, item = scores.topk(k, dim=1)
        return item.masked_fill(best.isneginf(), -1), best


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    try:
        result = run(options) if options.render is None else read_results(options.render)
    except GraphDiffError as error:
        sys.exit(f"giffcf_anatomy.py: {error}")
    text = page(result)
    print(text)
    if options.markdown:
        write_text(options.markdown, text)
    print(f"figures: {options.render or options.out}")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all variants and write the figures.

    Raises:
        ConfigError: If the model is no GiffCF or is not of this data.
    """
    data = datasets.load(options.dataset, options.root, **shared.dataset_options(options))[0]
    model = GiffCF.from_pretrained(options.run).eval()
    check_data(model, data)
    masks = options.dataset.lower() in MASKS_VALIDATION
    splits = ("val", "test") if options.test else ("val",)
    figures = {
        name: {
            split: rank(Ranked(model, inference), data, split, KS, masks and split == "test").mean()
            for split in splits
        }
        for name, inference in VARIANTS.items()
    }
    result = {
        "dataset": options.dataset,
        "fingerprint": fingerprint(data),
        "mask_validation": masks,
        "settings": model.config.model_dump(),
        "variants": figures,
    }
    write_text(options.out, json.dumps(result, indent=1) + "\n")
    return result


def check_data(model: GiffCF, data: HeteroData) -> None:
    """Check that a model was trained on the data.

    Raises:
        ConfigError: If it was not.
    """
    pairs = torch.stack([model.graph.user, model.graph.col])
    given = data["user", "interacts", "item"].edge_index
    given = given[:, torch.argsort(given[0] * data["item"].num_nodes + given[1])]
    if not torch.equal(pairs, given):
        raise ConfigError(
            "the model was trained on other interactions than those of the dataset; give the "
            "dataset that its RUN names"
        )


def page(result: dict[str, Any]) -> str:
    """Return the variants as a Markdown page."""
    splits = list(next(iter(result["variants"].values())))
    rows = [
        [name, *(" / ".join(f"{of[split][m]:.4f}" for m in EVIDENCE) for split in splits)]
        for name, of in result["variants"].items()
    ]
    head = ["inference", *({"val": "validation", "test": "test"}[split] for split in splits)]
    note = (
        f"{' / '.join(EVIDENCE)} of one trained GiffCF; only its inference differs. One step: the "
        "prediction at step T. z: diffused state, x: observed row, c = x: condition, A: smoothing "
        f"filter. Masked in the test ranking: {describe_masking(result['mask_validation'])}."
    )
    return shared.page(f"Inference of GiffCF on {result['dataset']}", head, rows, note)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_data(parser)
    parser.add_argument("--run", type=Path, help="folder of the trained model")
    parser.add_argument("--test", action="store_true", help="measure on test items too")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--render", type=Path, metavar="JSON", help="measure nothing, write a page")
    parser.add_argument("--markdown", type=Path, help="Markdown page to write")
    options = parser.parse_args(arguments)
    if options.render is None and (options.out is None or options.run is None):
        parser.error("give --run RUN and --out FILE.json, or --render FILE.json to show a file")
    return options


if __name__ == "__main__":
    main()
