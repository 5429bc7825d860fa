"""``graphdiff doctor``."""

from __future__ import annotations

import typer

from graphdiff.console import print_table


def doctor() -> None:
    """Check the installation: packages, devices, and a tiny model."""
    from graphdiff.doctor import examine

    findings = examine()
    print_table(
        ["component", "found", "state"],
        [[one.component, one.found, _state(one.ok, one.needed)] for one in findings],
    )
    if any(one.needed and not one.ok for one in findings):
        raise typer.Exit(1)


def _state(ok: bool, needed: bool) -> str | tuple[str, str]:
    if ok:
        return "ok", "green"
    return ("fails", "red") if needed else "absent"
