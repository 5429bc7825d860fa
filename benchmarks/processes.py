"""What each diffusion process is worth, beside its control.

    python benchmarks/processes.py --dataset tiktok --root DIR --seeds 3 --out tiktok.json

trains LD4MRec with each process and strength, and with the controls of the processes: the same
corruption without its idea (no noise, no smoothing, a fixed share of hidden items, dropping
alone). The paper's other parts that are off by default stand beside the default: steps drawn by
importance, soft targets, a gate per user. All figures are on validation; test pairs are not read.
Each training is measured by one pass on the observed row and by the reverse chain. An interrupted
run is continued with --resume.

A process is compared with its control user by user and seed by seed. The interval of the relative
gain is a bootstrap over users and seeds.

    python benchmarks/processes.py --render tiktok.json ml-1m-clean.json --markdown processes.md

writes one table of several datasets, and trains nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import options as shared
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError
from graphdiff.evaluation.significance import bootstrap_over_seeds
from graphdiff.experiments.cells import Cell, CellList, Outcome, read_results
from graphdiff.experiments.evidence import UserValues
from graphdiff.experiments.measure import EVIDENCE
from graphdiff.files import write_text
from graphdiff.models import LD4MRec
from graphdiff.models.config import flat_settings
from graphdiff.options import parse_options
from graphdiff.schema import modalities

#: A process pays if it gains this much over its control, on as many datasets.
GAIN, DATASETS = 0.02, 3
ONE_PASS = "one pass"
#: A minute or two for a training on one processor core.
SMALL = {"hidden_channels": 64, "num_heads": 2, "objective.num_negatives": 512}
#: Largest variances of Gaussian noise; the first is the model's default.
NOISE = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Variant:
    """Changes to the settings, and the name of the control; None for a control."""

    settings: dict[str, Any] = field(default_factory=dict)
    control: str | None = None


def variants(share: float, content: bool) -> dict[str, Variant]:
    """Return processes and controls by name, each control before its processes, and the parts of
    the paper that are off by default, with the default as their control.

    Args:
        share: Share of hidden items of the model's settings.
        content: The data has item features.
    """
    plain, masking = f"no process, {share:.0%} hidden", f"masking, mean {share:.0%}"
    found = {
        plain: Variant({"diffusion.enabled": False}),
        **{
            f"Gaussian noise, s = {scale:g}": Variant({"diffusion.noise_scale": scale}, plain)
            for scale in NOISE
        },
        masking: Variant({"diffusion.process": "masking"}, plain),
    }
    for other in (0.3, 0.85):
        fixed = f"no process, {other:.0%} hidden"
        hidden = {"objective.input_dropout": other}
        found[fixed] = Variant({"diffusion.enabled": False, **hidden})
        drawn = {"diffusion.process": "masking", **hidden}
        found[f"masking, mean {other:.0%}"] = Variant(drawn, fixed)
    for insertion in (0.25, 1.0):
        flips = {"diffusion.process": "flipping", "diffusion.strength": insertion}
        found[f"flipping, f = {insertion:g}"] = Variant(flips, masking)
    heats = {"heat": (0.5, 1.5), "content_heat": (0.3, 1.0) if content else ()}
    for name, strengths in heats.items():
        for strength in strengths:
            heat = {"diffusion.process": name, "diffusion.strength": strength}
            title = f"{name.replace('_', ' ')}, α = {strength:g}"
            found[title] = Variant(heat, plain)
    whole, unmasked = {"diffusion.whole_row": True}, "the whole row, no process"
    found[unmasked] = Variant({"diffusion.enabled": False, **whole})
    found["heat of the whole row, α = 1.5"] = Variant(
        {"diffusion.process": "heat", **whole}, unmasked
    )
    for name in ("gaussian", "heat", *(["content_heat"] if content else [])):
        combined = {"diffusion.process": f"masking+{name}"}
        found[f"masking and {name.replace('_', ' ')}"] = Variant(combined, masking)
    noise = f"Gaussian noise, s = {NOISE[0]:g}"
    found["steps by importance"] = Variant({"diffusion.importance_sampling": True}, noise)
    found["soft targets, p = γ = 0.1"] = Variant({"objective.soft_probability": 0.1}, noise)
    if content:
        found["gate per user"] = Variant({"gated": True}, noise)
    return found


class ProcessCells(CellList):
    """Cells whose values per validation user are kept beside the results."""

    def keep(self, cell: Cell, outcome: Outcome) -> None:
        """Append a finished cell and its values per user."""
        super().keep(cell, outcome)
        values = outcome[1]
        for view in outcome[0]["views"]:
            of_view = {metric: values[f"{view}/{metric}"] for metric in EVIDENCE}
            self.users.add(label(cell.key, view), cell.seed, {"user": values["user"], **of_view})


def label(key: dict[str, Any], view: str) -> str:
    """Return the name of a cell's values per user."""
    return f"{key['variant']}: {view}"


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    first, *others = options.render or [None]
    of_first = argparse.Namespace(**{**vars(options), "render": first})
    result = shared.run_or_exit("processes.py", run, of_first)
    text = page([result, *map(read_results, others)])
    print(text)
    if options.markdown:
        write_text(options.markdown, text)
    print(f"figures: {', '.join(map(str, options.render or [options.out]))}")


def run(options: argparse.Namespace) -> CellList:
    """Measure all variants and seeds."""
    experiment = shared.cell_list(options, ProcessCells)
    assert isinstance(experiment, ProcessCells)
    given = {**SMALL, **parse_options(options.settings, "--settings")}
    settings = flat_settings(LD4MRec.configure(**given))
    share, content = settings["objective.input_dropout"], bool(modalities(experiment.data))
    known = variants(share, content)
    chosen = options.variants or list(known)
    if unknown := sorted(set(chosen) - set(known)):
        raise ConfigError(f"no variant {', '.join(unknown)}; there are {', '.join(known)}")
    # With a process comes its control, which precedes it, and the control's own.
    needed = set(chosen)
    for name, variant in reversed(known.items()):
        if name in needed and variant.control is not None:
            needed.add(variant.control)
    known = {name: variant for name, variant in known.items() if name in needed}
    experiment.result |= {"num_steps": options.chain}
    experiment.run(cells(experiment.data, options, given, known))
    experiment.result["gains"] = gains(experiment.requested(), experiment.users, known)
    experiment.save()
    return experiment


def cells(
    data: HeteroData,
    options: argparse.Namespace,
    given: dict[str, Any],
    known: dict[str, Variant],
) -> Iterator[Cell]:
    """Yield all variants of one seed after another: an interrupted run is of use."""

    def graph() -> HeteroData:
        return data

    views = {ONE_PASS: {}, **{f"{n} passes": {"num_steps": n} for n in options.chain}}
    for seed in range(options.seeds):
        for name, variant in known.items():
            settings = flat_settings(LD4MRec.configure(**{**given, **variant.settings}))
            measured = {"test": False, "views": views}
            yield Cell(LD4MRec, settings, seed, graph, {"variant": name}, measured)


def gains(
    measured: list[dict[str, Any]], users: UserValues, known: dict[str, Variant]
) -> list[dict[str, Any]]:
    """Return each variant's figures and its relative gains over the control's one pass.

    An interval needs the values of each user, which are kept beside the results. A seed without
    them, of a run on another machine, counts in the gain, which the interval is moved along with,
    and not in the interval's width.

    Returns:
        One entry per variant and view: ``variant``, ``view``, ``control``, ``seeds``; with a
        control, ``interval_seeds``, the number of seeds in the interval; per metric the ``mean``
        and, with a control, ``gain`` and its ``interval``.

    Raises:
        ConfigError: If no seed has the values of each user.
    """
    found = []
    for name, variant in known.items():
        of_name, rivals = (by_seed(measured, one) for one in (name, variant.control))
        both = sorted(of_name.keys() & rivals.keys())
        views = [cell["figures"]["views"] for cell in of_name.values()]
        for view in views[0] if views else ():
            row: dict[str, Any] = {"variant": name, "view": view, "control": variant.control}
            row["seeds"] = len(of_name)
            for metric in EVIDENCE:
                means = {seed: _mean(cell, view, metric) for seed, cell in of_name.items()}
                figures: dict[str, Any] = {"mean": fmean(means.values())}
                base = fmean(_mean(rivals[seed], ONE_PASS, metric) for seed in both) if both else 0
                if base > 0:
                    own = [values(of_name[seed], users, view, metric) for seed in both]
                    other = [values(rivals[seed], users, ONE_PASS, metric) for seed in both]
                    difference = [
                        a - b
                        for a, b in zip(own, other, strict=True)
                        if a is not None and b is not None
                    ]
                    if not difference:
                        raise ConfigError(
                            f"{users.path} does not hold the users of {name}; run the benchmark "
                            "again without --resume"
                        )
                    row["interval_seeds"] = len(difference)
                    gain = fmean(means[seed] for seed in both) / base - 1
                    apart = np.stack(difference)
                    interval = bootstrap_over_seeds(apart) / base
                    moved = gain - apart.mean() / base
                    figures["gain"], figures["interval"] = gain, (interval + moved).tolist()
                row[metric] = figures
            found.append(row)
    return found


def by_seed(measured: list[dict[str, Any]], variant: str | None) -> dict[int, dict[str, Any]]:
    """Return a variant's cells by seed, in ascending order."""
    found = {cell["key"]["seed"]: cell for cell in measured if cell["key"]["variant"] == variant}
    return dict(sorted(found.items()))


def values(cell: dict[str, Any], users: UserValues, view: str, metric: str) -> np.ndarray | None:
    """Return a cell's values of each user, ``[n]``; None where they are missing."""
    stated = {"seed": cell["key"]["seed"], "test": cell["figures"]["views"][view]}
    return users.of(label(cell["key"], view), stated, metric)


def _mean(cell: dict[str, Any], view: str, metric: str) -> float:
    return cell["figures"]["views"][view][metric]


def page(results: list[dict[str, Any]]) -> str:
    """Return processes and controls on all datasets as a Markdown page."""
    rows = [
        [
            gain["variant"] + ("" if gain["control"] else " (control)"),
            gain["view"],
            gain["control"] or "",
            *(_figure(_gain_of(result, gain["variant"], gain["view"])) for result in results),
        ]
        for gain in _merged(results)
    ]
    names = [result["dataset"] for result in results]
    epochs = {result["protocol"]["epochs"] for result in results}
    note = (
        "Validation recall@20, the mean over seeds; in brackets the gain over the control's one "
        "pass, and its 95 % interval by a bootstrap over users and seeds. Epochs at most: "
        f"{', '.join(map(str, sorted(epochs)))}; seeds: "
        + ", ".join(f"{result['dataset']} {_seeds(result)}" for result in results)
        + f". A process pays where it gains at least {GAIN:.0%}, with an interval above zero. "
        + verdict(results)
    )
    head = ["process", "inference", "control", *names]
    return shared.page("Diffusion processes of LD4MRec and their controls", head, rows, note)


def verdict(results: list[dict[str, Any]]) -> str:
    """Return a sentence on the processes that pay on enough datasets."""
    paying = []
    for gain in _merged(results):
        found = [_gain_of(result, gain["variant"], gain["view"]) for result in results]
        pays = [_pays(one[EVIDENCE[0]]) for one in found if one is not None]
        if gain["control"] and sum(pays) >= DATASETS:
            paying.append(f"{gain['variant']} by {gain['view']}")
    if len(results) < DATASETS:
        return f"A verdict takes {DATASETS} datasets."
    return f"On at least {DATASETS} datasets: {'; '.join(paying) if paying else 'none'}."


def _pays(figures: dict[str, Any]) -> bool:
    return figures.get("gain", 0) >= GAIN and figures["interval"][0] > 0


def _merged(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry for each variant and view that any dataset has, in their order."""
    found = {(one["variant"], one["view"]): one for result in results for one in result["gains"]}
    return list(found.values())


def _gain_of(result: dict[str, Any], variant: str, view: str) -> dict[str, Any] | None:
    of_both = (one for one in result["gains"] if (one["variant"], one["view"]) == (variant, view))
    return next(of_both, None)


def _figure(gain: dict[str, Any] | None) -> str:
    if gain is None:
        return "–"
    figures = gain[EVIDENCE[0]]
    text = f"{figures['mean']:.4f}"
    if "gain" not in figures:
        return text
    low, high = figures["interval"]
    return f"{text} ({figures['gain']:+.1%}; {low:+.1%} … {high:+.1%})"


def _seeds(result: dict[str, Any]) -> str:
    seeds = max(one["seeds"] for one in result["gains"])
    finished = (one for one in result["gains"] if one["seeds"] == seeds)
    known = min(one.get("interval_seeds", seeds) for one in finished)
    return str(seeds) if known == seeds else f"{seeds} ({known} in intervals)"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler="resolve",
    )
    shared.add_cells(parser)
    parser.add_argument(
        "--render", type=Path, nargs="+", metavar="JSON", help="train nothing, write their page"
    )
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="all by default")
    parser.add_argument(
        "--settings",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="settings of all models; by default 64 channels, two heads and 512 negatives",
    )
    parser.add_argument(
        "--chain", type=int, nargs="*", default=[5], help="passes of the reverse chain to measure"
    )
    parser.set_defaults(epochs=60, patience=5, min_steps=0, eval_every=4)
    return shared.parse_cells(parser, arguments)


if __name__ == "__main__":
    main()
