"""Options that take several values: ``--models ld4mrec lightgcn``."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class ManyValues(TyperCommand):
    """A command whose repeatable options take all values up to the next option.

    ``--models a b`` is read as ``--models a --models b``, which stays possible. Such a command has
    no arguments besides its options.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the name of a repeatable option before each of its values."""
        repeatable = {
            name
            for parameter in self.params
            if getattr(parameter, "multiple", False)
            for name in parameter.opts
        }
        expanded: list[str] = []
        option = None  # The repeatable option that has a value already.
        for previous, arg in zip([None, *args], args, strict=False):
            if arg.startswith("-"):
                option = None
            elif previous in repeatable:
                option = previous
            elif option is not None:
                expanded.append(option)
            expanded.append(arg)
        return super().parse_args(ctx, expanded)
