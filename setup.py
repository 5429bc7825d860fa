"""Puts the cards of the datasets into the package; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithCards(build_py):
    """Copies ``datasets/NAME/card.yaml`` to ``graphdiff/cards/NAME/card.yaml`` in a wheel.

    A checkout installed for editing needs no copy: graphdiff finds the cards beside itself.
    """

    def run(self):
        """Builds, then copies."""
        super().run()
        if not self.editable_mode:
            for card in sorted(Path("datasets").glob("*/card.yaml")):
                folder = Path(self.build_lib) / "graphdiff" / "cards" / card.parent.name
                self.mkpath(str(folder))
                self.copy_file(str(card), str(folder / card.name))


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithCards})
