"""The notes under the tables of a comparison: protocol, budgets, sources and machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from graphdiff.experiments.budgets import budget_warnings
from graphdiff.experiments.machine import describe
from graphdiff.experiments.protocol import describe_ranking, exceeds
from graphdiff.experiments.published import Published, published
from graphdiff.experiments.tables import BEST_TEST_EPOCH, LEVEL, label
from graphdiff.models.registry import reads_times


def notes(result: dict[str, Any]) -> list[str]:
    """Return what a reader of the tables must know, one or two sentences each."""
    protocol, machine, papers = result["protocol"], result["machine"], published(result)
    lines = [
        f"Test figures, mean ± standard deviation over seeds; {masking(result)}; epoch chosen by "
        f"{protocol['epoch_chosen_by']}. val is the validation recall@20 of that epoch. "
        + _ending(protocol),
        "trials and hours are the tuning budget on validation; 0 trials are the defaults. The "
        "rule: the same number of trials for all models or, where a trial takes over 20 minutes on "
        "2 cores, the same number of hours. trainings saw these validation pairs, at least: those "
        "that led to the defaults, trials and the seeds of this table.",
    ]
    lines += [
        f"Trials of {', '.join(names)} ran on {device}: their hours are that machine's."
        for device, names in tuned_elsewhere(result).items()
    ]
    lines += [line for one in result["models"].values() for line in one["tuning"].get("unused", [])]
    lines += _order(result)
    if "split" in protocol:
        lines.append(f"Split: {protocol['split']}; see graphdiff.transforms.")
    statistics = result.get("statistics") or {}
    if statistics:
        lines.append(
            "At recall@20 and ndcg@20: * significantly better than the second best model, † "
            f"significantly worse than the best, with p < {LEVEL} by both tests, after correction: "
            f"{statistics['tests']}; {statistics['correction']}; over {statistics['users']:,} "
            f"{statistics['sample']}."
        )
    if statistics.get("left_out"):
        lines.append(
            "Not tested, because per-user values of an earlier run are missing: "
            + ", ".join(label(result, name) for name in statistics["left_out"])
            + "."
        )
    lines += budget_warnings({name: one["tuning"] for name, one in result["models"].items()})
    if papers.references or any(name in papers.figures for name in result["models"]):
        if papers.note:
            lines.append(papers.note[0].upper() + papers.note[1:] + ".")
        lines += _selection(papers)
        lines += [f"[{n}] {papers.sources[key]}." for n, key in enumerate(papers.cited(), 1)]
    lines += [*_skipped(result), *_out_of_time(result), *_longer(result)]
    lines.append(f"Measured on {describe(machine)}. Data fingerprint {result['fingerprint']}.")
    for other in result.get("earlier_machines", []):
        lines.append(f"Some seeds were measured earlier on {describe(other)}.")
    for device, names in measured_elsewhere(result).items():
        lines.append(f"Trained on {device}: {', '.join(names)}; their cost is that device's.")
    return lines


def _selection(papers: Published) -> list[str]:
    """Return which published figures are of an epoch that the test pairs selected."""
    figures = [*papers.figures.values(), *papers.references]
    titles = {
        by: ", ".join(one["title"] for one in figures if one.get("epoch") == by)
        for by in ("test", "validation")
    }
    if not titles["test"]:
        return []
    line = f"{BEST_TEST_EPOCH} By the authors' public code, this is the best test epoch"
    if titles["validation"]:
        line += f"; the code of {titles['validation']} selects the epoch by validation"
    return [f"{line}."]


def masking(result: dict[str, Any]) -> str:
    """Return which items were masked in the test rankings, from what the run states."""
    return describe_ranking(bool(result["protocol"].get("mask_validation")))


def tuned_elsewhere(result: dict[str, Any]) -> dict[str, list[str]]:
    """Return by device the models that were tuned on another device than the figures are from."""
    return _elsewhere(
        result, lambda model: (one["device"] for one in model["tuning"].get("machines", []))
    )


def measured_elsewhere(result: dict[str, Any]) -> dict[str, list[str]]:
    """Return by device the models with seeds of another device than the machine's own; results of
    earlier versions do not state devices."""
    return _elsewhere(
        result, lambda model: (one["device"] for one in model["seeds"] if "device" in one)
    )


def _elsewhere(
    result: dict[str, Any], devices: Callable[[dict[str, Any]], Iterable[str]]
) -> dict[str, list[str]]:
    """Return by device, of those that are not the machine's own, the models that it is of."""
    found: dict[str, list[str]] = {}
    for name, model in result["models"].items():
        for device in sorted({*devices(model)} - {result["machine"]["device"]}):
            found.setdefault(device, []).append(label(result, name))
    return found


def _ending(protocol: dict[str, Any]) -> str:
    """Return when trainings end; old results have no minimum number of steps."""
    minutes = protocol.get("max_minutes")
    limit = "" if minutes is None else f" or {minutes:g} minutes (validations not counted)"
    return (
        f"Training ends after {protocol['patience']} validations without improvement, where the "
        f"curve has not started not before {protocol.get('min_steps', 0):,} steps, and after "
        f"{protocol['epochs']} epochs{limit} at the latest."
    )


def _skipped(result: dict[str, Any]) -> list[str]:
    sections = {"": result, **result.get("dropped_features", {})}
    return [
        f"Skipped: {label(result, one['model'])}"
        + (f", seed {one['seed']}" if one["seed"] is not None else "")
        + (f", with {100 * float(share):g} % of the features removed" if share else "")
        + f": {one['reason']}."
        for share, section in sections.items()
        for one in section.get("skipped", [])
    ]


def _order(result: dict[str, Any]) -> list[str]:
    """Return which models know the order of a user's interactions, where the data has times."""
    known = [
        label(result, name)
        for name, model in result["models"].items()
        if reads_times(name) and model["settings"].get("recency", 0) != 0
    ]
    if not (known and result.get("times")):
        return []
    return [
        f"{', '.join(known)}: read the order of each user's training interactions; to the other "
        "models they are a set."
    ]


def _out_of_time(result: dict[str, Any]) -> list[str]:
    """Return which trainings a limit of their time ended, with what they reached by then."""
    ended: dict[float, list[str]] = {}
    for name, model in result["models"].items():
        for one in model["seeds"]:
            if (minutes := one.get("out_of_time")) is not None:
                epochs = f"(best epoch {one['best_epoch']} of {one['epochs']})"
                ended.setdefault(minutes, []).append(
                    f"{label(result, name)}, seed {one['seed']} {epochs}"
                )
    own = result["protocol"].get("max_minutes")
    return [
        f"Ended by {'the' if minutes == own else 'an earlier'} limit of time, {minutes:g} minutes: "
        + f"{', '.join(names)}."
        for minutes, names in sorted(ended.items())
    ]


def _longer(result: dict[str, Any]) -> list[str]:
    """Return which trainings of an earlier run took longer than this limit of time."""
    minutes = result["protocol"].get("max_minutes")
    longer = [
        f"{label(result, name)}, seed {one['seed']} ({one['train_seconds']:.0f} s)"
        for name, model in result["models"].items()
        for one in model["seeds"]
        if exceeds(one, minutes)
    ]
    return [f"Had more time than this limit: {', '.join(longer)}."] if longer else []
