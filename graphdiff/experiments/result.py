"""The result of a comparison, in Python."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from graphdiff.errors import ConfigError
from graphdiff.evaluation.significance import Comparison
from graphdiff.experiments.cells import read_results
from graphdiff.experiments.report import print_table, write_page
from graphdiff.experiments.tables import ranked
from graphdiff.files import make_folder, write_text

if TYPE_CHECKING:
    import pandas as pd


class ComparisonResult:
    """Figures of models on one dataset, with their significance.

    ``print(result)`` shows the tables. Models are named as in the registry.

    Args:
        content: The content of the JSON file of a comparison.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    @classmethod
    def read(cls, path: str | Path) -> ComparisonResult:
        """Return the result in a JSON file.

        Raises:
            ConfigError: If the file is not one of a comparison.
        """
        content = read_results(Path(path))
        if not content.get("models"):
            raise ConfigError(
                f"{path} holds no models; give a file that `graphdiff compare --out` wrote"
            )
        return cls(content)

    @property
    def models(self) -> list[str]:
        """Names of the models, the best test recall@20 first."""
        return ranked(self.content["models"])

    @property
    def skipped(self) -> dict[str, str]:
        """Reasons why models, or some of their seeds, could not be measured, by name."""
        return {one["model"]: one["reason"] for one in self.content["skipped"]}

    def mean(self, model: str) -> dict[str, float]:
        """Return the test metrics of a model, averaged over seeds."""
        return self._entry(model)["mean"]["test"]

    def std(self, model: str) -> dict[str, float]:
        """Return the standard deviations (n - 1) of the test metrics over seeds."""
        return self._entry(model)["std"]["test"]

    def settings(self, model: str) -> dict[str, Any]:
        """Return the settings that a model was trained with."""
        return self._entry(model)["settings"]

    def significance(self, metric: str = "recall@20") -> dict[str, Comparison]:
        """Return the comparison of each model with the best other one.

        Args:
            metric: ``"recall@20"`` or ``"ndcg@20"``.

        Raises:
            ConfigError: If there is no comparison by this metric.
        """
        found = self.content.get("statistics", {}).get("metrics", {})
        if metric not in found:
            raise ConfigError(
                f"no significance for {metric!r}; there is {', '.join(found) or 'none'}"
            )
        return {name: Comparison(**one) for name, one in found[metric].items()}

    def to_frame(self) -> pd.DataFrame:
        """Return the mean test metrics, one row per model, the best recall@20 first."""
        import pandas as pd

        rows = {name: self.mean(name) for name in self.models}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")

    def write(self, path: str | Path) -> None:
        """Write the result: ``.json``, or a page ``.html``, ``.md`` or ``.tex``.

        Raises:
            ConfigError: If the suffix is another.
        """
        path = Path(path)
        if path.suffix == ".json":
            make_folder(path.parent)
            write_text(path, json.dumps(self.content, indent=1) + "\n")
        else:
            write_page(self.content, path)

    def _entry(self, model: str) -> dict[str, Any]:
        try:
            return self.content["models"][model.lower()]
        except KeyError:
            raise ConfigError(
                f"no model {model!r} in this comparison; there are {', '.join(self.models)}"
            ) from None

    def __str__(self) -> str:
        text = io.StringIO()
        print_table(self.content, Console(file=text, width=150))
        return text.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        """Return the mean test metrics as a table, which notebooks show."""
        return self.to_frame().to_html(float_format="{:.4f}".format)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.content['dataset']}, models={self.models})"
