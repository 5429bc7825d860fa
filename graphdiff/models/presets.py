"""Presets: settings of a model that have a name, such as ``paper`` of LD4MRec.

A model class lists them in :attr:`~graphdiff.models.hooks.ModelHooks.presets`. Wherever a model is
named, ``<model>-<preset>`` names it with these settings: ``ld4mrec-paper``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from graphdiff.models.config import flat_settings

if TYPE_CHECKING:
    from graphdiff.models.base import Recommender
    from graphdiff.models.config import BaseConfig


class NamedModel(NamedTuple):
    """A model as a name stands for it.

    Attributes:
        model: Its class.
        preset: The preset that its settings start from; None for the defaults.
    """

    model: type[Recommender]
    preset: str | None = None

    @property
    def name(self) -> str:
        """The name in lower case, such as ``ld4mrec-paper``."""
        return "-".join([self.model.__name__.lower(), *([self.preset] if self.preset else [])])

    @property
    def title(self) -> str:
        """The name as tables show it, such as ``LD4MRec (paper)``."""
        return self.model.__name__ + (f" ({self.preset})" if self.preset else "")

    def configure(self, settings: Mapping[str, Any]) -> BaseConfig:
        """Return all settings, checked: those given, then the preset's, then the defaults.

        Raises:
            ConfigError: If a setting does not exist or fit.
        """
        return self.model.configure(self.preset, **settings)

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return :meth:`configure` as plain values; those of groups have dotted names."""
        return flat_settings(self.configure(given))


def named(model: type[Recommender] | NamedModel) -> NamedModel:
    """Return a class as a model without a preset, and a named model as it is."""
    return model if isinstance(model, NamedModel) else NamedModel(model)
