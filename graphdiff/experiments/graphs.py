"""The graphs of trainings, in memory or in files for other processes."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch_geometric.data import HeteroData

from graphdiff.datasets.io.storage import save_graph


class HasGraph(Protocol):
    """A cell, as far as its graph is concerned."""

    @property
    def graph(self) -> Callable[[], HeteroData]:
        """Function that returns the graph."""


def given(data: HeteroData) -> Callable[[], HeteroData]:
    """Return a function that returns this graph, for cells of data that was loaded before."""
    return lambda: data


class Graphs:
    """The graphs of cells, each made once.

    Cells that share a graph are expected one after another. For cells that run in other processes
    graphs are written to files: a file is removed when another graph is requested and the last cell
    that reads it is finished.
    """

    def __enter__(self) -> Graphs:
        self._folder = tempfile.TemporaryDirectory()
        self._make: Callable[[], HeteroData] | None = None
        self._data: HeteroData | None = None
        self._path = Path(self._folder.name)
        self._readers: Counter[Path] = Counter()
        self._written = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def data(self, cell: HasGraph) -> HeteroData:
        """Return the graph of a cell."""
        if cell.graph is not self._make:
            self._make, self._data = cell.graph, cell.graph()
        assert self._data is not None
        return self._data

    def file(self, cell: HasGraph) -> Path:
        """Return the file of a cell's graph; :meth:`release` it when the cell is finished."""
        if cell.graph is not self._make:
            self._path = Path(self._folder.name) / f"{self._written}.safetensors"
            save_graph(cell.graph(), self._path)
            self._make, self._written = cell.graph, self._written + 1
        self._readers[self._path] += 1
        return self._path

    def release(self, graph: Path | HeteroData) -> None:
        """Note that a cell on this graph is finished."""
        if not isinstance(graph, Path):
            return
        self._readers[graph] -= 1
        for path, readers in list(self._readers.items()):
            if not readers and path != self._path:
                path.unlink()
                del self._readers[path]
