"""The contribution of each part of LD4MRec.

    python benchmarks/ablation.py --dataset tiktok --root DIR --seeds 3 --out ablation.json \
        --markdown ablation.md

Each variant lacks one part, or has one more that is off by default, and is trained as the whole
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

import options as shared
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError
from graphdiff.experiments.cells import Cell, CellList, summary
from graphdiff.experiments.tuned import tuned_settings
from graphdiff.files import write_text
from graphdiff.models import LD4MRec
from graphdiff.models.config import flat_settings
from graphdiff.schema import modalities
from graphdiff.transforms import InjectNoise, KeepModalities


@dataclass(frozen=True)
class Variant:
    """A change to the model: settings, the modalities that it reads, options of recommend."""

    settings: dict[str, Any] = field(default_factory=dict)
    keep: list[str] | None = None
    recommend: dict[str, Any] = field(default_factory=dict)

    def applied(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return all settings of the variant of a model with these settings."""
        return flat_settings(LD4MRec.configure(**{**settings, **self.settings}))

    def changes(self, settings: dict[str, Any]) -> bool:
        """Return whether the variant differs from a model with these settings."""
        altered = self.applied(settings) != flat_settings(LD4MRec.configure(**settings))
        return altered or self.keep is not None or bool(self.recommend)


def variants(names: list[str], num_steps: int) -> dict[str, Variant]:
    """Return the variants by name: the whole model first.

    Args:
        names: Modalities of the data.
        num_steps: Diffusion steps T of the tuned model.
    """
    found = {
        "whole": Variant(),
        "no collaborative signal": Variant({"propagation.num_layers": 0}),
        "no content": Variant({"propagation.content_weight": 0.0, "content_rank": 0}),
        "content by neighbours alone": Variant({"content_rank": 0}),
        "equal modalities": Variant({"modality_shares": "equal"}),
        "no gate": Variant({"gated": False}),
        "with a gate": Variant({"gated": True}),
        "one head": Variant({"num_heads": 1}),
        "looking ahead": Variant({"propagation.hide_targets": False}),
        "no network": Variant({"num_blocks": 0}),
        "no diffusion": Variant({"diffusion.enabled": False}),
        "uniform steps": Variant({"diffusion.importance_sampling": False}),
        "steps by importance": Variant({"diffusion.importance_sampling": True}),
        "no softening": Variant({"objective.soft_probability": 0.0}),
        "no reconstruction": Variant({"objective.reconstruction": 0.0}),
        "no ranking": Variant({"objective.ranking": 0.0}),
        "multi-step chain": Variant(recommend={"num_steps": num_steps}),
    }
    if len(names) > 1:
        found |= {f"{name} alone": Variant(keep=[name]) for name in names}
    return found


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    result = shared.run_or_exit("ablation.py", run, options)
    text = page(result)
    print(text)
    if options.markdown:
        write_text(options.markdown, text)
    print(f"figures: {options.render or options.out}")


def run(options: argparse.Namespace) -> CellList:
    """Measure all variants and seeds."""
    experiment = shared.cell_list(options)
    settings = flat_settings(LD4MRec.configure(**tuned_settings(options.dataset, "ld4mrec")))
    known = {
        name: variant
        for name, variant in variants(
            modalities(experiment.data), settings["diffusion.num_steps"]
        ).items()
        # A variant that changes nothing is the whole model again.
        if name == "whole" or variant.changes(settings)
    }
    chosen = options.variants or list(known)
    if unknown := sorted(set(chosen) - set(known)):
        raise ConfigError(f"no variant {', '.join(unknown)}; there are {', '.join(known)}")
    experiment.run(
        cells(experiment.data, options, settings, {name: known[name] for name in chosen})
    )
    experiment.save()
    return experiment


def cells(
    data: HeteroData,
    options: argparse.Namespace,
    settings: dict[str, Any],
    chosen: dict[str, Variant],
) -> Iterator[Cell]:
    """Yield all variants and seeds, first without added noise: an interrupted run is of use."""
    for share in dict.fromkeys((0.0, options.noise)):
        for (name, variant), seed in product(chosen.items(), range(options.seeds)):
            yield Cell(
                LD4MRec,
                variant.applied(settings),
                seed,
                partial(altered, data, variant, share, seed),
                {"variant": name, **({"noise": share} if share else {})},
                {"recommend": variant.recommend},
            )


def altered(data: HeteroData, variant: Variant, share: float, seed: int) -> HeteroData:
    """Return the data with a share of noise and the modalities that a variant reads."""
    keep = modalities(data) if variant.keep is None else variant.keep
    return KeepModalities(keep)(InjectNoise(share, "add", seed)(data) if share else data)


def page(result: dict[str, Any]) -> str:
    """Return accuracy and cost of each variant as a Markdown page."""
    names = list(dict.fromkeys(cell["key"]["variant"] for cell in result["cells"]))
    noises = sorted({cell["key"].get("noise", 0.0) for cell in result["cells"]} - {0.0})
    head = ["variant"]
    head += [
        f"{split} {metric}" for split in ("val", "test") for metric in ("recall@20", "ndcg@20")
    ]
    rows = []
    for name in names:
        found = summary(result["cells"], variant=name, noise=None)
        if found is None:
            continue
        mean, std = found["mean"], found["std"]
        figures = [
            shared.over_seeds(mean[split][metric], std[split][metric], found["count"])
            for split in ("val", "test")
            for metric in ("recall@20", "ndcg@20")
        ]
        for noise in noises:
            noisy = summary(result["cells"], variant=name, noise=noise)
            figures.append("–" if noisy is None else loss(mean["val"], noisy, "recall@20"))
        costs = [f"{mean[cost]:.3f}" for cost in ("seconds_per_epoch", "inference_seconds")]
        rows.append([name, *figures, *costs])
    head += [f"val recall@20 with {noise:.0%} noise" for noise in noises]
    head += ["s per epoch", "inference s"]
    note = (
        f"Mean ± standard deviation over {shared.number_of_seeds(result)}. "
        f"{shared.masking_note(result)} Inference: ranking the catalogue for all test users. The "
        "multi-step chain is trained as the whole model is and recommends by the reverse chain; "
        "validation selected its epoch in one pass."
    )
    return shared.page(f"Ablation of LD4MRec on {result['dataset']}", head, rows, note)


def loss(clean: dict[str, float], noisy: dict[str, Any], metric: str) -> str:
    """Return a metric on validation after training with noise, and its relative change."""
    mean, std = noisy["mean"]["val"][metric], noisy["std"]["val"][metric]
    change = f" ({mean / clean[metric] - 1:+.1%})" if clean[metric] > 0 else ""
    return shared.over_seeds(mean, std, noisy["count"]) + change


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_cells(parser)
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="all by default")
    parser.add_argument("--noise", type=float, default=0, help="share of fake interactions")
    return shared.parse_cells(parser, arguments)


if __name__ == "__main__":
    main()
