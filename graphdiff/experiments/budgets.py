"""The rule for tuning budgets, and checks that a comparison follows it.

All models get the same number of trials. Where a trial takes more than 20 minutes on two cores, a
model gets the same number of hours instead. A grid that was searched completely needs no more
trials, and a model without settings to search needs none. LD4MRec never gets more than a baseline.

A search begins with the defaults. Where those came from trainings on the same validation pairs, as
a new model's do, no budget compensates for it, so a comparison states how many there were, and for
each model how many trainings saw its validation pairs at all.
"""

from __future__ import annotations

from typing import Any

SLOW_TRIAL_HOURS = 20 / 60
OURS = "ld4mrec"


def budget(found: dict[str, Any], searchable: bool, earlier_runs: int = 0) -> dict[str, Any]:
    """Return the budget of a search, as a comparison keeps it.

    Args:
        found: Content of the file that tuning wrote; empty without one.
        searchable: Whether the model has settings to search.
        earlier_runs: Trainings on the same validation pairs that led to the model's defaults; the
            file may have more.
    """
    search = found.get("search", {})
    return {
        "trials": found.get("trials", 0),
        "hours": found.get("hours", 0.0),
        "whole_grid": bool(search.get("whole_grid")) or not searchable,
        "search_seed": search.get("seed"),
        "earlier_runs": max(search.get("earlier_runs", 0), earlier_runs),
        "machines": found.get("machines", []),
        "val": found.get("val"),
    }


def trainings(entry: dict[str, Any]) -> int:
    """Return how many trainings of a model saw the validation pairs of a comparison: those that led
    to its defaults, trials, and the seeds that are compared.

    Args:
        entry: What a comparison keeps of the model.
    """
    tuning = entry["tuning"]
    return tuning.get("earlier_runs", 0) + tuning["trials"] + len(entry["seeds"])


def got_as_much(model: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether the rule allows ``other`` its budget, given that of ``model``.

    Args:
        model: A budget, as :func:`budget` returns it.
        other: Another one.
    """
    if model.get("whole_grid") or model["trials"] >= other["trials"]:
        return True
    hours, other_hours = model.get("hours") or 0.0, other.get("hours") or 0.0
    is_slow = hours > SLOW_TRIAL_HOURS * model["trials"] > 0
    return is_slow and hours >= other_hours


def budget_warnings(tuning: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line for each violation of the rule, and for trainings that it does not count.

    Args:
        tuning: Budgets by name of the model.
    """
    lines = []
    if OURS in tuning:
        less = [
            name for name in tuning if name != OURS and not got_as_much(tuning[name], tuning[OURS])
        ]
        if less:
            lines.append(
                f"Warning: {OURS} got a larger tuning budget ({_in_words(tuning[OURS])}) than "
                + ", ".join(f"{name} ({_in_words(tuning[name])})" for name in less)
                + "."
            )
    baselines = {name: one for name, one in tuning.items() if name != OURS}
    less = [
        name
        for name, one in baselines.items()
        if not all(got_as_much(one, other) for other in baselines.values())
    ]
    if less:
        by_trials: dict[int, list[str]] = {}
        for name, one in baselines.items():
            by_trials.setdefault(one["trials"], []).append(name)
        lines.append(
            "Warning: tuning budgets of the baselines differ, in trials: "
            + "; ".join(f"{num} for {', '.join(by_trials[num])}" for num in sorted(by_trials))
            + "."
        )
    lines += [
        f"Warning: the defaults of {name} came from at least {one['earlier_runs']} trainings on "
        "this dataset's validation pairs, which are not among its trials."
        for name, one in tuning.items()
        if one.get("earlier_runs")
    ]
    return lines


def _in_words(one: dict[str, Any]) -> str:
    if not one["trials"]:
        return "defaults"
    hours = f", {one['hours']:.2f} h" if one.get("hours") is not None else ""
    return f"{one['trials']} trials{hours}"
