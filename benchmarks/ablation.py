"""What each part of LD4MRec is worth.

    python benchmarks/ablation.py --dataset tiktok --root DIR --seeds 3 --out ablation.json \
        --markdown ablation.md

Each variant lacks one part, or has one more that is off otherwise, and is trained as the whole
model is, with the settings that tuning found for the whole. With ``--noise 0.3`` it is trained a
second time, with so many fake interactions added to training (graphdiff.transforms.InjectNoise; the
seed draws them too).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

from cells import Cells, Work, add_arguments, markdown, over_seeds, run_or_exit
from protocol import tuned
from rich.console import Console
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError
from graphdiff.files import write_text
from graphdiff.models import LD4MRec, ModelConfig
from graphdiff.schema import modalities
from graphdiff.transforms import InjectNoise, KeepModalities


@dataclass(frozen=True)
class Variant:
    """What a variant changes: settings, the modalities that are read, options of recommend."""

    settings: dict[str, Any] = field(default_factory=dict)
    keep: list[str] | None = None
    recommend: dict[str, Any] = field(default_factory=dict)

    def changes(self, settings: dict[str, Any]) -> bool:
        """Whether anything differs from a model of these settings."""
        altered = any(settings[name] != value for name, value in self.settings.items())
        return altered or self.keep is not None or bool(self.recommend)


def variants(names: list[str], num_steps: int) -> dict[str, Variant]:
    """The whole model first, then what lacks a part or has one more, by name.

    Args:
        names: Modalities of the data.
        num_steps: Diffusion steps T of the tuned model.
    """
    found = {
        "whole": Variant(),
        "no collaborative signal": Variant({"num_layers": 0}),
        "no content": Variant({"content_weight": 0.0, "content_rank": 0}),
        "content by neighbours alone": Variant({"content_rank": 0}),
        "equal modalities": Variant({"modality_shares": "equal"}),
        "no gate": Variant({"gated": False}),
        "with a gate": Variant({"gated": True}),
        "one head": Variant({"num_heads": 1}),
        "looking ahead": Variant({"hide_interactions": False}),
        "no network": Variant({"num_blocks": 0}),
        "no diffusion": Variant({"diffusion": False}),
        "uniform steps": Variant({"importance_sampling": False}),
        "steps by importance": Variant({"importance_sampling": True}),
        "no softening": Variant({"soft_probability": 0.0}),
        "no reconstruction": Variant({"reconstruction": 0.0}),
        "no ranking": Variant({"ranking": 0.0}),
        "multi-step chain": Variant(recommend={"num_steps": num_steps}),
    }
    if len(names) > 1:
        found |= {f"{name} alone": Variant(keep=[name]) for name in names}
    return found


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    cells, chosen = run_or_exit("ablation.py", run, options)
    text = page(cells, chosen, options.noise)
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
    if options.markdown:
        write_text(options.markdown, text)
    Console().print(f"figures: {options.out}")


def run(options: argparse.Namespace, console: Console) -> tuple[Cells, list[str]]:
    """Measures all variants and seeds; the cells, and the variants' names."""
    cells = Cells(options, console)
    config = LD4MRec.configure(**tuned(options.dataset, "ld4mrec").get("settings", {}))
    settings = config.model_dump()
    known = {
        name: variant
        for name, variant in variants(modalities(cells.data), settings["num_steps"]).items()
        # What the whole model is, is no variant of it.
        if name == "whole" or variant.changes(settings)
    }
    chosen = options.variants or list(known)
    if unknown := sorted(set(chosen) - set(known)):
        raise ConfigError(f"no variant {', '.join(unknown)}; there are {', '.join(known)}")
    cells.run(work(cells.data, options, config, {name: known[name] for name in chosen}))
    cells.save()
    return cells, chosen


def work(
    data: HeteroData, options: argparse.Namespace, config: ModelConfig, chosen: dict[str, Variant]
) -> Iterator[Work]:
    """All variants and seeds, first without added noise, then with it: what there is of a run that
    was stopped is of use."""
    for share in dict.fromkeys((0.0, options.noise)):
        for (name, variant), seed in product(chosen.items(), range(options.seeds)):
            key = {
                "variant": name,
                "model": "ld4mrec",
                "settings": {**config.model_dump(), **variant.settings},
                "seed": seed,
            }
            if share:
                key["noise"] = share
            yield Work(
                key, partial(altered, data, variant, share, seed), {"recommend": variant.recommend}
            )


def altered(data: HeteroData, variant: Variant, share: float, seed: int) -> HeteroData:
    """The data with a share of noise, and the modalities that a variant reads."""
    keep = modalities(data) if variant.keep is None else variant.keep
    return KeepModalities(keep)(InjectNoise(share, "add", seed)(data) if share else data)


def page(cells: Cells, chosen: list[str], noise: float) -> str:
    """Accuracy and cost of each variant as a Markdown page."""
    head = ["variant"]
    head += [
        f"{split} {metric}" for split in ("val", "test") for metric in ("recall@20", "ndcg@20")
    ]
    rows = []
    for name in chosen:
        summary = cells.summary(variant=name, noise=None)
        if summary is None:
            continue
        mean, std = summary["mean"], summary["std"]
        figures = [
            over_seeds(mean[split][metric], std[split][metric], summary["count"])
            for split in ("val", "test")
            for metric in ("recall@20", "ndcg@20")
        ]
        if noise:
            noisy = cells.summary(variant=name, noise=noise)
            figures.append("–" if noisy is None else loss(mean["val"], noisy, "recall@20"))
        costs = [f"{mean[cost]:.3f}" for cost in ("seconds_per_epoch", "inference_seconds")]
        rows.append([name, *figures, *costs])
    head += [f"val recall@20 with {noise:.0%} noise"] if noise else []
    head += ["s per epoch", "inference s"]
    note = (
        "Mean ± standard deviation over seeds. Inference: ranking the catalogue for all test "
        "users. The multi-step chain is trained as the whole model is and asked by the reverse "
        "chain; validation chose its epoch in one pass."
    )
    return markdown(f"Ablation of LD4MRec on {cells.result['dataset']}", head, rows, note)


def loss(clean: dict[str, float], noisy: dict[str, Any], metric: str) -> str:
    """A metric on validation after noisy training, and what that cost."""
    mean, std = noisy["mean"]["val"][metric], noisy["std"]["val"][metric]
    change = f" ({mean / clean[metric] - 1:+.1%})" if clean[metric] > 0 else ""
    return over_seeds(mean, std, noisy["count"]) + change


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="all by default")
    parser.add_argument("--noise", type=float, default=0, help="share of fake interactions")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
