"""The effect of missing features on each model.

    python benchmarks/missing_features.py --dataset tiktok --root DIR --seeds 3 \
        --out missing.json --markdown missing.md

Shares of the feature rows of each modality are removed before training
(graphdiff.transforms.DropFeatures); the seed draws them too, and a larger share removes more of the
same rows. A plot NAME.svg is written beside the JSON file.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import altered
import options as shared
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError
from graphdiff.experiments.cells import summary
from graphdiff.experiments.plots import COLOURS, LINES, MARKERS, add_legend, open_figure, svg
from graphdiff.files import write_bytes, write_text
from graphdiff.schema import modalities
from graphdiff.transforms import DropFeatures

SHARES = (0.3, 0.6, 0.75, 0.9)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    result = shared.run_or_exit("missing_features.py", run, options)
    write_bytes((options.out or options.render).with_suffix(".svg"), plot(result))
    if options.markdown:
        write_text(options.markdown, page(result))
    print(f"figures: {options.render or options.out}")


def run(options: argparse.Namespace) -> Any:
    """Measure all models, seeds and shares, the complete data first."""
    return altered.measure(options, "missing", partial(forms, sorted({0.0, *options.shares})))


def forms(shares: list[float], data: HeteroData) -> dict[float, altered.Alter]:
    """Return the data with each share of the feature rows removed.

    Raises:
        ConfigError: If the data has no modality.
    """
    if not modalities(data):
        raise ConfigError("the data has no features that could be missing")
    return {share: partial(_dropped, share) for share in shares}


def _dropped(share: float, data: HeteroData, seed: int) -> HeteroData:
    return DropFeatures(share, seed)(data)


def page(result: dict[str, Any]) -> str:
    """Return the figures as a Markdown page."""
    note = "Columns: share of the feature rows of each modality that were removed before training."
    return altered.page(result, "Missing features", "missing", percent, float, note)


def percent(share: str) -> str:
    """Return a share as a percentage."""
    return f"{100 * float(share):g} %"


def plot(result: dict[str, Any]) -> bytes:
    """Return recall@20 by share and model, as SVG."""
    figure = open_figure(7.5, 3.8)
    axes = figure.subplots()
    cells, read = result["cells"], result["read"]
    shares = sorted({cell["key"]["missing"] for cell in cells})
    for n, name in enumerate(dict.fromkeys(cell["key"]["model"] for cell in cells)):
        found = {share: summary(cells, model=name, missing=share) for share in shares}
        points = {share: one for share, one in found.items() if one is not None}
        axes.errorbar(
            [100 * share for share in points],
            [one["mean"][read]["recall@20"] for one in points.values()],
            yerr=[one["std"][read]["recall@20"] for one in points.values()],
            marker=MARKERS[n % len(MARKERS)],
            color=COLOURS[n % len(COLOURS)],
            linestyle=LINES[n // len(COLOURS) % len(LINES)],
            capsize=2,
            label=name,
        )
    axes.set_xlabel("feature rows removed, %")
    axes.set_ylabel(f"{read} recall@20")
    if cells:
        add_legend(axes)
    return svg(figure)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_cells(parser)
    altered.add_models(parser)
    parser.add_argument("--shares", nargs="+", type=float, default=list(SHARES))
    return shared.parse_cells(parser, arguments)


if __name__ == "__main__":
    main()
