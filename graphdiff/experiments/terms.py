"""On which data, and on what terms, a search of settings was made.

A study remembers its terms: the fingerprint of the data, how trials are trained, the settings that
are not searched, and the values to try for the others. It does not go on with other terms: scores
on other data or of other trainings cannot be compared, and the best settings of one grid may not
be in another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphdiff.errors import ConfigError
from graphdiff.models.registry import reads_times
from graphdiff.schema import INTERACTS, fingerprint
from graphdiff.schema.names import TIME

if TYPE_CHECKING:
    import optuna
    from torch_geometric.data import HeteroData

    from graphdiff.experiments.protocol import Protocol

#: Name of the terms among the attributes of a study.
TERMS = "terms"


def fingerprints(data: HeteroData) -> tuple[str, str]:
    """Return the fingerprint of a graph, and that of the same data without times."""
    own = fingerprint(data)
    # Features take long to read twice.
    return own, fingerprint(data, times=False) if TIME in data[INTERACTS] else own


def stated_fingerprints(of: tuple[str, str]) -> dict[str, str]:
    """Return fingerprints as files state them: the second one where it differs."""
    own, without = of
    more = {} if without == own else {"fingerprint_without_times": without}
    return {"fingerprint": own, **more}


def known_fingerprints(stated: Mapping[str, Any]) -> set[str]:
    """Return what :func:`stated_fingerprints` wrote, empty where a file has none."""
    names = ("fingerprint", "fingerprint_without_times")
    return {str(stated[name]) for name in names if stated.get(name)}


def terms(
    model: str,
    data: tuple[str, str],
    protocol: Protocol,
    fixed: Mapping[str, Any],
    searched: Mapping[str, list[Any]],
) -> dict[str, Any]:
    """Return the terms of a search, as JSON values.

    Args:
        model: Name of the model. One that reads no times has equal trials with and without them.
        data: Fingerprints of the data with times and without.
        protocol: How trials are trained.
        fixed: Settings that are not searched.
        searched: The values to try for each of the others.
    """
    found = {
        "fingerprint": data[0] if reads_times(model) else data[1],
        "protocol": protocol.training(),
        "fixed": dict(fixed),
        "searched": dict(searched),
    }
    return json.loads(json.dumps(found, default=str))


def agree(study: optuna.Study, mine: dict[str, Any], files: list[Path]) -> bool:
    """Keep the terms of a study without trials, or check that they are those of its trials.

    A study of an earlier version has trials and no terms. On which data and terms they were made is
    unknown: it is continued without a check, as before, and no terms are claimed for it. Likewise
    the values to try are not compared where its terms lack them.

    Args:
        study: The study.
        mine: The terms of this search.
        files: The files of the study and of its result.

    Returns:
        Whether all trials are known to be on these terms.

    Raises:
        ConfigError: If the trials were made on other terms.
    """
    if not study.get_trials(deepcopy=False):
        study.set_user_attr(TERMS, mine)
        return True
    theirs = study.user_attrs.get(TERMS)
    if theirs is None:
        return False
    differences = _differences(theirs, mine)
    if differences:
        there = [str(path) for path in files if path.exists()]
        raise ConfigError(
            f"{files[0]} holds trials of another search, which cannot be continued by this one: "
            f"{'; '.join(differences)}; give another --out folder, or remove "
            f"{' and '.join(there)} to begin again"
        )
    return True


def _differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """Return in words what two searches differ in."""
    found = []

    def compare(name: str, old: Any, new: Any) -> None:
        if old != new:
            one, other = ("none" if value is None else value for value in (old, new))
            found.append(f"{name}: found {one}, expected {other}")

    compare("fingerprint of the data", theirs["fingerprint"], mine["fingerprint"])
    for name, value in theirs["protocol"].items():
        compare(name, value, mine["protocol"].get(name, value))
    for name in {**theirs["fixed"], **mine["fixed"]}:
        old, new = (one["fixed"].get(name, "searched") for one in (theirs, mine))
        compare(f"setting {name}", old, new)
    space = theirs.get("searched", mine["searched"])
    for name in {**space, **mine["searched"]}:
        if name not in theirs["fixed"] and name not in mine["fixed"]:
            compare(f"values of {name}", space.get(name), mine["searched"].get(name))
    return found
