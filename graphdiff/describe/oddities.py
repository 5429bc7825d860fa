"""What is unusual in a dataset, in words."""

from __future__ import annotations

from typing import Any

#: Shares and concentrations from which something is worth a look. They are ours.
MANY_NEARLY_REPEATED, CONCENTRATED, FEW_INTERACTIONS = 0.2, 0.9, 5


def oddities(found: dict[str, Any]) -> list[str]:
    """Return what is unusual in a description, the most serious first.

    Args:
        found: What :func:`~graphdiff.describe.describe` returned.

    Returns:
        Sentences, possibly none.
    """
    odd = [
        f"{number:,} pairs are in both {splits}: test figures would be too good"
        for splits, number in found["shared_pairs"].items()
        if number
    ]
    odd += [
        f"{number:,} {split} pairs are given more than once"
        for split, number in found["repeated_pairs"].items()
        if number
    ]
    odd += found.get("notes", [])
    odd += [
        f"there are no {split} pairs"
        for split in ("validation", "test")
        if not found["pairs"][split]
    ]
    odd += _of_held_out(found) + _of_degrees(found)
    for name, modality in found["modalities"].items():
        odd += _of_modality(name, modality, found)
    return odd


def _of_held_out(found: dict[str, Any]) -> list[str]:
    odd = []
    for split, part in found["held_out"].items():
        users, pairs = part["users"], found["pairs"][split]
        cold_users = part["users_without_training_pairs"]
        cold_pairs = part["pairs_on_items_without_training_pairs"]
        if cold_users:
            odd.append(f"{cold_users:,} of {users:,} {split} users have no training pair")
        if cold_pairs:
            odd.append(
                f"{cold_pairs:,} of {pairs:,} {split} pairs are on items without training pairs, "
                "which only features can reach"
            )
    return odd


def _of_degrees(found: dict[str, Any]) -> list[str]:
    odd = []
    for node, degrees in found["degrees"].items():
        if degrees["none"]:
            odd.append(f"{degrees['none']:,} of {found[node]:,} {node} have no training pair")
        if degrees["median"] < FEW_INTERACTIONS:
            odd.append(
                f"half of the {node} have at most {degrees['median']} training pairs; a k-core or "
                "more data would make results steadier"
            )
        if degrees["gini"] > CONCENTRATED:
            odd.append(f"training pairs are concentrated on few {node}: Gini {degrees['gini']:.2f}")
    return odd


def _of_modality(name: str, modality: dict[str, Any], found: dict[str, Any]) -> list[str]:
    odd = []
    items = found["items"]
    if modality["missing"]:
        odd.append(
            f"{modality['missing']:,} of {items:,} items lack {name} features "
            f"({1 - modality['coverage']:.1%})"
        )
    for key, words in (
        ("zero_rows", "items have {} features that are all zero; give NaN where they are missing"),
        ("repeated_rows", "items share their {} features with another item"),
        ("constant_channels", "channels of the {} features have one value for all items"),
    ):
        if modality[key]:
            odd.append(f"{modality[key]:,} {words.format(name)}")
    if modality["nearly_repeated"] > MANY_NEARLY_REPEATED:
        odd.append(
            f"{modality['nearly_repeated']:.0%} of the items have nearly the same {name} features "
            "as another item"
        )
    for split, number in modality["pairs_with_a_twin_in_training"].items():
        if number:
            odd.append(
                f"{number:,} {split} pairs are on an item whose {name} features equal those of a "
                "training item of the same user"
            )
    return odd
