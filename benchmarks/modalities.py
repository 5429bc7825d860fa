"""What the modalities of a dataset are worth to each model.

    python benchmarks/modalities.py --dataset tiktok --root DIR --seeds 3 --out modalities.json \
        --markdown modalities.md

Each model is trained with all modalities, with each one alone, without any, with features shuffled
between items and with noise in their place (graphdiff.transforms.KeepModalities and
ReplaceFeatures); the seed of the training is that of the shuffling too. If a model loses nothing
with shuffled features, content is not what it gains from. The question is that of "Does
Multimodality Improve Recommender Systems as Expected?", arXiv 2508.05377.
"""

from __future__ import annotations

import argparse
from typing import Any

import altered
import options as shared
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError
from graphdiff.files import write_text
from graphdiff.schema import modalities
from graphdiff.transforms import KeepModalities, ReplaceFeatures


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    result = shared.run_or_exit("modalities.py", run, options)
    if options.markdown:
        write_text(options.markdown, page(result))
    print(f"figures: {options.render or options.out}")


def run(options: argparse.Namespace) -> Any:
    """Measure all models, seeds and forms of the features."""
    return altered.measure(options, "features", forms)


def forms(data: HeteroData) -> dict[str, altered.Alter]:
    """Return the forms of the features by name, all modalities first.

    Raises:
        ConfigError: If the data has no modality.
    """
    names = modalities(data)
    if not names:
        raise ConfigError("the data has no modality whose worth could be measured")
    kept = {"all": names, **({f"{name} alone": [name] for name in names if len(names) > 1})}
    return {
        **{form: _keep(chosen) for form, chosen in kept.items()},
        "none": _keep([]),
        "shuffled": lambda graph, seed: ReplaceFeatures("shuffled", seed)(graph),
        "noise": lambda graph, seed: ReplaceFeatures("noise", seed)(graph),
    }


def _keep(names: list[str]) -> altered.Alter:
    return lambda graph, seed: KeepModalities(names)(graph)


def page(result: dict[str, Any]) -> str:
    """Return the figures as a Markdown page."""
    note = (
        "Shuffled: features are permuted between items. Noise: Gaussian, with the mean and the "
        "standard deviation of each column. Models that need a modality are skipped without any."
    )
    return altered.page(result, "What modalities are worth", "features", str, order, note)


def order(form: str) -> tuple[int, str]:
    """Return what forms are sorted by: all modalities, each alone, none, and replaced ones."""
    places = {"all": 0, "none": 2, "shuffled": 3, "noise": 4}
    return places.get(form, 1), form


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_cells(parser)
    altered.add_models(parser)
    return shared.parse_cells(parser, arguments)


if __name__ == "__main__":
    main()
