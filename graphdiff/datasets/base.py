"""The base of all datasets: one checked graph, stored without pickle."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch_geometric.data import HeteroData, InMemoryDataset

from graphdiff.datasets.arguments import check_arguments
from graphdiff.datasets.interactions import Interactions
from graphdiff.datasets.io.storage import load_graph, read_metadata, save_graph
from graphdiff.datasets.item_features import FeatureTable
from graphdiff.datasets.notes import noted, read_notes, show_notes
from graphdiff.datasets.provenance import FileRecord, file_records, files_identity, identity
from graphdiff.datasets.registration import (
    explain_missing,
    is_built_in,
    missing_methods,
    register,
)
from graphdiff.datasets.tfidf import TfidfEncoder
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import prepare

# Version of the readers, part of the key of processed files: raise it if their results change.
VERSION = 7


class TimedLog(NamedTuple):
    """An interaction log before it is split, with the features of its items.

    Attributes:
        log: The log; it has times.
        features: Features per modality.
    """

    log: Interactions
    features: dict[str, FeatureTable]


class RecDataset(InMemoryDataset):
    """A recommendation dataset of one graph: ``dataset[0]`` is the ``HeteroData``.

    A subclass names its files in :attr:`raw_file_names` and makes the graph in :meth:`read`; it
    defines :meth:`download` if its files can be downloaded. Defining a subclass, in any module,
    registers it: :func:`graphdiff.datasets.load` and the command line find it by its :attr:`name`.
    Arguments of an ``__init__`` of its own are checked against their annotations, and the graph is
    read again if one of them changes::

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
    ``~/.cache/graphdiff``). That file is safetensors, written atomically, and rebuilt when the
    contents of the raw files or of the arguments (``pre_transform`` included), the class or
    graphdiff's readers have changed. Warnings of :meth:`read`, such as of repeated rows, are stored
    with it and shown again whenever it is loaded. If it cannot be written, a warning says so and
    the data is available all the same.

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
        must_exist = self.needs_root and type(self).download is RecDataset.download
        folder = None if root is None else os.path.expanduser(root)
        if folder is not None and must_exist and not os.path.isdir(folder):
            found = "is a file" if os.path.isfile(folder) else "does not exist"
            raise DataError(f"the folder {root} {found}; give root, the folder of the files")
        super().__init__(
            None if root is None else str(root),
            transform,
            pre_transform,
            force_reload=force_reload,
        )
        self._data = self._make() if root is None else self._load_or_make()

    @property
    def raw_file_names(self) -> list[str]:
        """Files, or folders of files, that must be there."""
        return []

    @property
    def optional_file_names(self) -> list[str]:
        """Files that are read if they are there."""
        return []

    @abstractmethod
    def read(self) -> HeteroData:
        """Make the graph from the raw files; :func:`~graphdiff.schema.prepare` completes it."""

    def read_log(self) -> TimedLog:
        """Return the interactions with their times, for evaluation over time.

        Raises:
            ConfigError: If the dataset consists of splits rather than of a log.
            DataError: If the log has no times.
        """
        raise ConfigError(
            f"{type(self).__name__} has no log with times; give a dataset that has one, such as "
            "synthetic-drift, or a log in CSV or Parquet files"
        )

    def text_encoders(self) -> dict[str, TfidfEncoder]:
        """Return the encoders that were fitted to texts, by modality, for texts of later items.

        None by default: features that were read, or that a model encoded, need no such encoder.
        """
        return {}

    def download(self) -> None:
        """Download the raw files into ``raw_dir``; the base class raises.

        Raises:
            DataError: If it does not succeed, naming the files and the folder.
        """
        raise DataError(
            f"{self.raw_dir} lacks {', '.join(self.missing_file_names)}; {type(self).__name__} "
            f"needs {', '.join(self.raw_file_names)}"
        )

    @property
    def missing_file_names(self) -> list[str]:
        """The files of :attr:`raw_file_names` that are missing."""
        return [name for name in self.raw_file_names if not (Path(self.raw_dir) / name).exists()]

    @property
    def parameters(self) -> dict[str, Any]:
        """What the graph depends on beside the raw files and the arguments of ``__init__``."""
        return {}

    @property
    def is_flat(self) -> bool:
        """Whether ``root`` itself holds raw files."""
        return any((Path(self.root) / name).exists() for name in self.raw_file_names)

    @property
    def raw_dir(self) -> str:
        """The folder of the raw files."""
        return self.root if self.is_flat else super().raw_dir

    @property
    def processed_dir(self) -> str:
        """The folder of the processed file."""
        if not self.is_flat:
            return super().processed_dir
        cache = Path(os.environ.get("GRAPHDIFF_CACHE") or "~/.cache/graphdiff").expanduser()
        folder = hashlib.sha256(os.path.realpath(self.root).encode()).hexdigest()[:16]
        return str(cache / f"{type(self).__name__.lower()}-{folder}")

    @property
    def processed_file_names(self) -> str:
        """The processed file."""
        return "graph.safetensors"

    @property
    def has_process(self) -> bool:
        """False: PyG's own processing would write and read pickles."""
        return False

    def _download(self) -> None:
        if self.missing_file_names:
            # A user's own folder with part of the files is not completed by a download.
            RecDataset.download(self) if self.is_flat else self.download()

    def _load_or_make(self) -> HeteroData:
        path = Path(self.processed_paths[0])
        known = read_metadata(path)
        files = self._file_records(known)
        source = self._source(files)
        if not self.force_reload and source in known.get("source", "").split():
            try:
                data = load_graph(path)
            except DataError:
                pass  # A damaged processed file is rebuilt.
            else:
                show_notes(read_notes(known))
                return data
        with noted() as notes:
            data = self._make()
        # Reading may change the state of an argument, such as an encoder that counts its calls.
        after = self._source(files)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_graph(data, path, f"{source} {after}", json.dumps(files), json.dumps(notes))
        except OSError as error:
            warnings.warn(
                f"{path} cannot be written ({error.strerror}), so {type(self).__name__} will read "
                "the raw files again next time; set GRAPHDIFF_CACHE to a folder that can be "
                "written to",
                stacklevel=4,
            )
        return data

    def _make(self) -> HeteroData:
        data = prepare(self.read())
        return data if self.pre_transform is None else self.pre_transform(data)

    def _file_records(self, known: dict[str, str]) -> dict[str, FileRecord]:
        """Return what is known of each raw file, with its digest."""
        try:
            earlier = json.loads(known.get("files", "{}"))
        except ValueError:
            earlier = {}
        names = [*self.raw_file_names, *self.optional_file_names]
        return file_records(Path(self.raw_dir), names, earlier if isinstance(earlier, dict) else {})

    def _source(self, files: dict[str, FileRecord]) -> str:
        """Return a digest of everything that the processed file depends on."""
        arguments = {
            name: value
            for name, value in self.__dict__.get("given_arguments", {}).items()
            if name not in ("root", "transform", "force_reload")
        }
        cls = type(self)
        # The code of graphdiff's own classes is covered by VERSION.
        reader = (cls.__module__, cls.__qualname__) if is_built_in(cls) else cls
        made_by = (reader, VERSION, arguments, self.parameters, self.pre_transform)
        return identity([*map(identity, made_by), files_identity(files)])
