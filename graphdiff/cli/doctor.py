"""``graphdiff doctor``."""

from __future__ import annotations

import typer

from graphdiff.console import print_table, print_text


def doctor() -> None:
    """Check the installation: packages of all extras, devices, and a tiny model."""
    from graphdiff.doctor import DISTRIBUTION, examine

    findings = examine()
    print_table(
        ["component", "extra", "found", "state"],
        [[one.component, one.extra, one.found, _state(one.ok, one.needed)] for one in findings],
    )
    absent = dict.fromkeys(one.extra for one in findings if one.extra and not one.ok)
    for extra in absent:
        print_text(f"for the extra {extra}: pip install '{DISTRIBUTION}[{extra}]'")
    if any(one.needed and not one.ok for one in findings):
        raise typer.Exit(1)


def _state(ok: bool, needed: bool) -> str | tuple[str, str]:
    if ok:
        return "ok", "green"
    return ("fails", "red") if needed else "absent"
