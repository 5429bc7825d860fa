"""The base of all datasets: one checked graph, kept processed without pickle."""

from __future__ import annotations

import hashlib
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from torch_geometric.data import HeteroData, InMemoryDataset

from graphdiff.datasets.arguments import check_arguments
from graphdiff.datasets.io.storage import load_graph, read_source, save_graph
from graphdiff.datasets.registration import explain_missing, missing_methods, register
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import prepare

# Part of what a processed file is recognised by: raise it when reading changes its result.
VERSION = 1


class RecDataset(InMemoryDataset):
    """A recommendation dataset of one graph: ``dataset[0]`` is the ``HeteroData``.

    A subclass names its files in :attr:`raw_file_names` and makes the graph in :meth:`read`; it
    defines :meth:`download` if its files can be downloaded. Defining a subclass, in any module,
    registers it: :func:`graphdiff.datasets.load` and the command line find it by its :attr:`name`.
    An ``__init__`` of its own is checked against its annotations, and the arguments that the graph
    depends on belong into :attr:`parameters`::

        class Tastes(RecDataset):
            name = "tastes"
            raw_file_names = ["likes.npy", "covers.npy"]

            def read(self):
                likes = np.load(self.raw_paths[0])  # integer pairs [2, E]
                covers = np.load(self.raw_paths[1])  # one row per item
                features = {"image": covers}
                return build_data(likes[0].max() + 1, len(covers), likes, features=features)


        data = load("tastes", "DIR")[0]

    Raw files are looked for in ``root/raw``, or in ``root`` itself if they lie there. The graph is
    stored in ``root/processed``; a folder that holds the raw files itself may belong to someone
    else, so it is left unchanged and the processed file goes to ``$GRAPHDIFF_CACHE`` (default:
    ``~/.cache/graphdiff``). That file is safetensors, written atomically, and rebuilt when the raw
    files, ``pre_transform`` or graphdiff's readers have changed. If it cannot be written, a warning
    says so and the data is available all the same.

    Args:
        root: Folder of the dataset (default: none, nothing is stored; only for datasets that are
            generated rather than read).
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once, before the graph is stored (default: none).
        force_reload: Read the raw files even if nothing has changed.

    Raises:
        DataError: If files are missing, damaged, or do not fit the schema.
        ConfigError: If an argument has the wrong type, or the class does not define :meth:`read`.
    """

    #: Name to register under (default: the class name in lower case).
    name: ClassVar[str] = ""
    #: Whether the dataset is read from files.
    needs_root: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register the class, and have its arguments checked against their annotations."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = check_arguments(cls.__init__)  # type: ignore[method-assign]
        register(cls)

    @check_arguments
    def __init__(
        self,
        root: str | Path | None = None,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        if missing_methods(type(self)):
            raise ConfigError(explain_missing(type(self)))
        if root is None and self.needs_root:
            raise DataError(
                f"{type(self).__name__} is read from files; give root, the folder that holds "
                f"{', '.join(self.raw_file_names)} or is to hold them"
            )
        super().__init__(
            None if root is None else str(root),
            transform,
            pre_transform,
            force_reload=force_reload,
        )
        self._data = self._make() if root is None else self._load_or_make()

    @property
    def raw_file_names(self) -> list[str]:
        """The files that must be there."""
        return []

    @property
    def optional_file_names(self) -> list[str]:
        """Files that are read where they are there."""
        return []

    @abstractmethod
    def read(self) -> HeteroData:
        """Makes the graph from the raw files. It need not be complete: the schema's
        :func:`~graphdiff.schema.prepare` follows.
        """

    def download(self) -> None:
        """Fetches the raw files into ``raw_dir``; here, says that they cannot be fetched.

        Raises:
            DataError: If it does not succeed, naming the files and the folder.
        """
        raise DataError(
            f"{self.raw_dir} lacks {', '.join(self.missing_file_names)}; {type(self).__name__} "
            f"needs {', '.join(self.raw_file_names)}"
        )

    @property
    def missing_file_names(self) -> list[str]:
        """The files of :attr:`raw_file_names` that are not there."""
        return [name for name in self.raw_file_names if not (Path(self.raw_dir) / name).exists()]

    @property
    def parameters(self) -> dict[str, Any]:
        """Arguments that the graph depends on beside the raw files."""
        return {}

    @property
    def is_flat(self) -> bool:
        """Whether ``root`` itself holds raw files."""
        return any((Path(self.root) / name).exists() for name in self.raw_file_names)

    @property
    def raw_dir(self) -> str:
        """Where the raw files are."""
        return self.root if self.is_flat else super().raw_dir

    @property
    def processed_dir(self) -> str:
        """Where the processed file is."""
        if not self.is_flat:
            return super().processed_dir
        cache = Path(os.environ.get("GRAPHDIFF_CACHE") or "~/.cache/graphdiff").expanduser()
        folder = hashlib.sha256(os.path.realpath(self.root).encode()).hexdigest()[:16]
        return str(cache / f"{type(self).__name__.lower()}-{folder}")

    @property
    def processed_file_names(self) -> str:
        """The one processed file."""
        return "graph.safetensors"

    @property
    def has_process(self) -> bool:
        """False: PyG's own processing would keep and read pickles."""
        return False

    def _download(self) -> None:
        if self.missing_file_names:
            # Half a dataset in a person's own folder is for that person to complete.
            RecDataset.download(self) if self.is_flat else self.download()

    def _load_or_make(self) -> HeteroData:
        path = Path(self.processed_paths[0])
        source = self._source()
        if not self.force_reload and read_source(path) == source:
            try:
                return load_graph(path)
            except DataError:
                pass  # A damaged file is no loss: what it was made from is there.
        data = self._make()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_graph(data, path, source)
        except OSError as error:
            warnings.warn(
                f"{path} cannot be written ({error.strerror}), so {type(self).__name__} will be "
                "read anew next time; set GRAPHDIFF_CACHE to a folder that can be written to",
                stacklevel=3,
            )
        return data

    def _make(self) -> HeteroData:
        data = prepare(self.read())
        return data if self.pre_transform is None else self.pre_transform(data)

    def _source(self) -> str:
        """Names what the processed file depends on, without reading the raw files."""
        lines = [f"{type(self).__name__} {VERSION} {self.parameters} {self.pre_transform!r}"]
        for name in [*self.raw_file_names, *self.optional_file_names]:
            path = Path(self.raw_dir) / name
            if path.exists():
                status = path.stat()
                lines.append(f"{name} {status.st_size} {status.st_mtime_ns}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
