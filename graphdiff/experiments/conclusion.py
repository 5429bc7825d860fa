"""The two sentences on top of a report: what the comparison found, and on which data."""

from __future__ import annotations

from typing import Any

from graphdiff.experiments.tables import LEVEL, label, mark, ranked, span, test_of


def conclusion(result: dict[str, Any]) -> str:
    """Return what a comparison found by recall@20, in one sentence."""
    best, *others = ranked(result["models"])
    value = _recall(result, best)
    if not others:
        return f"{label(result, best)} has a test recall@20 of {value:.4f} on {result['dataset']}."
    second = _recall(result, others[0])
    lead = f", {value / second - 1:.1%} above" if second else ", above"
    text = (
        f"{label(result, best)} has the highest test recall@20 on {result['dataset']}, {value:.4f}"
        f"{lead} {label(result, others[0])} ({second:.4f})"
    )
    test = test_of(result, best, "recall@20")
    if test is None:
        return f"{text}; the difference was not tested."
    p = max(test["p_t_holm"], test["p_wilcoxon_holm"])
    shown = f"p < {LEVEL / 50:g}" if p < LEVEL / 50 else f"p = {p:.3f}"
    significant = p < LEVEL and test["difference"] > 0
    text += f"; the difference {'is significant' if significant else 'may be chance'} ({shown})"
    worse = sum(mark(result, name, "recall@20") == "†" for name in others)
    if len(others) == 1:
        return f"{text}."
    if worse == len(others):
        how_many = "both" if worse == 2 else f"all {worse}"
    else:
        how_many = f"{worse} of the {len(others)}"
    return f"{text}, and {how_many} other models are significantly worse."


def about_data(result: dict[str, Any]) -> str:
    """Return what a comparison was measured on, in one sentence; empty for results of versions
    that did not state it."""
    groups = result.get("groups") or {}
    users, items = groups.get("users"), groups.get("items")
    if not (users and items):
        return ""
    num_items = sum(one["items"] for one in items)
    cold = sum(one["items"] for one in items if one["name"] == "cold")
    seeds = {len(one["seeds"]) for one in result["models"].values()}
    return (
        f"Measured on {sum(one['test_pairs'] for one in items):,} held-out interactions of "
        f"{sum(one['users'] for one in users):,} users with {num_items:,} items, of which {cold:,} "
        f"have no training interaction; {span(seeds)} seed{'s' * (max(seeds) > 1)} per model."
    )


def _recall(result: dict[str, Any], name: str) -> float:
    return result["models"][name]["mean"]["test"]["recall@20"]
