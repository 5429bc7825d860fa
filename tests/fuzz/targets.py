"""Readers to fuzz; a new reader is one more entry of :data:`TARGETS`."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from graphdiff.cli.arguments import model_settings
from graphdiff.datasets import (
    DiffMMLayout,
    InteractionLog,
    MMRecLayout,
    PairListsLayout,
    RecBoleLayout,
    TikTok,
)
from graphdiff.datasets.io.safe_npy import load_features
from graphdiff.datasets.io.safe_pickle import load_sparse
from graphdiff.datasets.io.storage import load_graph, save_graph
from graphdiff.errors import GraphDiffError
from graphdiff.models import LightGCN, Recommender
from graphdiff.schema import build_data
from graphdiff.training.checkpoints import WholeCheckpoints
from tests.hostile import hostile
from tests.sealing import reseal

Sample = dict[str, bytes]


@dataclass(frozen=True)
class Target:
    """A reader and its samples.

    Args:
        name: For the report.
        samples: Returns genuine folders, each as file names with contents.
        read: Reads a folder; it may raise a :class:`~graphdiff.errors.GraphDiffError`.
        hostile: Returns samples that would run a given command.
    """

    name: str
    samples: Callable[[], list[Sample]]
    read: Callable[[Path], object]
    hostile: Callable[[str], list[Sample]] = lambda command: []


def _matrix(kind: str = "coo_matrix", seed: int = 0) -> sp.spmatrix:
    dense = np.random.default_rng(seed).integers(0, 4, size=(4, 5))
    return getattr(sp, kind)((dense == 0).astype("f4"))


def _npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def _contents(folder: Path) -> Sample:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _pickles() -> list[Sample]:
    kinds = [f"{kind}_{shape}" for kind in ("coo", "csr", "csc") for shape in ("matrix", "array")]
    return [
        {"m.pkl": pickle.dumps(_matrix(kind), protocol)} for kind in kinds for protocol in range(6)
    ]


def _hostile_pickles(command: str) -> list[Sample]:
    return [
        {"m.pkl": one if isinstance(one, bytes) else pickle.dumps(one)}
        for one in hostile(command).values()
    ]


def _tables() -> list[Sample]:
    table = np.arange(20.0).reshape(5, 4)
    return [
        {"x.npy": _npy(np.asarray(table, dtype, order=order))}  # type: ignore[call-overload]
        for dtype in ("f2", "<f4", ">f8", "i4", "u1")
        for order in ("C", "F")
    ]


def _hostile_tables(command: str) -> list[Sample]:
    array = np.empty((1, 1), dtype=object)
    array[0, 0] = hostile(command)["os.system"]
    return [{"x.npy": _npy(array, allow_pickle=True)}]


def _mmrec() -> list[Sample]:
    lines = "".join(f"{u}\t{(u * 3 + n) % 5}\t5.0\t{n % 3}\n" for u in range(6) for n in range(3))
    header = "userID\titemID\trating\tx_label\n"
    table = np.arange(20.0, dtype="f4").reshape(5, 4)
    return [
        {"toys.inter": (header + lines).encode(), "text_feat.npy": _npy(table)},
        {"toys.inter": (header + lines).replace("\n", "\r\n").encode()},
    ]


def _tiktok() -> list[Sample]:
    dense = np.random.default_rng(0).integers(0, 3, size=(4, 5))
    parts = ("trnMat.pkl", "valMat.pkl", "tstMat.pkl")
    matrices = {n: sp.coo_matrix((dense == v).astype("f4")) for v, n in enumerate(parts)}
    table = np.arange(20.0, dtype="f2").reshape(5, 4)
    return [
        {n: pickle.dumps(m, protocol) for n, m in matrices.items()}
        | {"image_feat.npy": _npy(table)}
        for protocol in (2, 4)
    ]


def _log() -> pd.DataFrame:
    pairs = [(user, (user * 3 + n) % 5) for user in range(6) for n in range(4)]
    log = pd.DataFrame(pairs, columns=["user", "item"])
    return log.assign(timestamp=range(len(log)), rating=[n % 5 + 0.5 for n in range(len(log))])


def _logs() -> list[Sample]:
    table = {"features_image.npy": _npy(np.arange(20.0, dtype="f4").reshape(5, 4))}
    named = _log().assign(item=[f"i{n}" for n in _log()["item"]])
    parquet = io.BytesIO()
    _log().to_parquet(parquet)
    return [
        {"interactions.csv": _log().to_csv(index=False).encode()} | table,
        {"interactions.tsv": named.to_csv(index=False, sep="\t").encode()},
        {"interactions.parquet": parquet.getvalue()} | table,
    ]


def _recbole() -> list[Sample]:
    header = ["user_id:token", "item_id:token", "timestamp:float", "rating:float"]
    items = "item_id:token\tclip:float_seq\n" + "".join(f"{n}\t{n}.5 1 2\n" for n in range(5))
    log = _log().to_csv(index=False, sep="\t", header=header)
    return [{"toys.inter": log.encode(), "toys.item": items.encode()}]


def _pair_lists() -> list[Sample]:
    pairs = _log()[["user", "item"]].to_numpy()
    parts = {"train_list.npy": pairs[:18], "valid_list.npy": pairs[18:21]}
    return [{name: _npy(one) for name, one in (parts | {"test_list.npy": pairs[21:]}).items()}]


def _mmssl() -> list[Sample]:
    splits = {"train": (0, 2), "val": (2, 3), "test": (3, 4)}
    lists = {
        f"{name}.json": {str(u): [(u * 3 + n) % 5 for n in range(*part)] for u in range(6)}
        for name, part in splits.items()
    }
    table = {"image_feat.npy": _npy(np.arange(20.0, dtype="f4").reshape(5, 4))}
    return [{name: json.dumps(one).encode() for name, one in lists.items()} | table]


def _diffmm() -> list[Sample]:
    return [*_tiktok(), *_mmssl()]


def _data() -> object:
    return build_data(
        3,
        4,
        [[0, 0, 1], [0, 1, 2]],
        features={"image": torch.arange(8.0).view(4, 2)},
        user_ids=[5, 6, 7],
        item_ids=["a", "b", "c", "d"],
    )


def _graphs() -> list[Sample]:
    with tempfile.TemporaryDirectory() as folder:
        save_graph(_data(), Path(folder) / "graph.safetensors", "made up")  # type: ignore[arg-type]
        return [_contents(Path(folder))]


def _runs() -> list[Sample]:
    with tempfile.TemporaryDirectory() as folder:
        LightGCN.from_data(_data(), hidden_channels=4).save_pretrained(folder)  # type: ignore[arg-type]
        return [_contents(Path(folder))]


def _recommend(folder: Path) -> object:
    with suppress(GraphDiffError):
        Recommender.from_pretrained(folder)
    reseal(folder)  # or nothing would be read of a damaged file but its digest
    return Recommender.from_pretrained(folder).recommend(0, k=1)


def _hostile_runs(command: str) -> list[Sample]:
    text = f"model: !!python/object/apply:os.system [{json.dumps(command)}]"
    return [_runs()[0] | {"config.yaml": text.encode()}]


def _checkpoints() -> list[Sample]:
    file = io.BytesIO()
    torch.save({"graphdiff": {"seconds": [1.0]}, "state_dict": {"w": torch.ones(3)}}, file)
    return [{"last.ckpt": file.getvalue()}]


def _hostile_checkpoints(command: str) -> list[Sample]:
    file = io.BytesIO()
    torch.save({"graphdiff": hostile(command)["os.system"]}, file)
    return [{"last.ckpt": file.getvalue()}]


def _yaml() -> list[Sample]:
    return [{"s.yaml": b"lr: 0.01\nhidden_channels: 12\n"}, {"s.yaml": b"settings: {lr: [1, x]}\n"}]


def _hostile_yaml(command: str) -> list[Sample]:
    return [{"s.yaml": f"lr: !!python/object/apply:os.system [{json.dumps(command)}]".encode()}]


TARGETS = [
    Target("pickled matrix", _pickles, lambda f: load_sparse(f / "m.pkl"), _hostile_pickles),
    Target("npy table", _tables, lambda f: load_features(f / "x.npy"), _hostile_tables),
    Target("MMRec folder", _mmrec, lambda f: MMRecLayout(f, force_reload=True)),
    Target("TikTok folder", _tiktok, lambda f: TikTok(f, force_reload=True)),
    Target("log as CSV or Parquet", _logs, lambda f: InteractionLog(f, force_reload=True)),
    Target("RecBole folder", _recbole, lambda f: RecBoleLayout(f, force_reload=True)),
    Target("pair lists", _pair_lists, lambda f: PairListsLayout(f, force_reload=True)),
    Target(
        "DiffMM folder",
        lambda: [*_tiktok(), *_mmssl()],
        lambda f: DiffMMLayout(f, force_reload=True),
    ),
    Target("graph file", _graphs, lambda f: load_graph(f / "graph.safetensors")),
    Target("RUN folder", _runs, _recommend, _hostile_runs),
    Target(
        "checkpoint",
        _checkpoints,
        lambda f: WholeCheckpoints().load_checkpoint(f / "last.ckpt"),
        _hostile_checkpoints,
    ),
    Target("settings in YAML", _yaml, lambda f: model_settings(f / "s.yaml", []), _hostile_yaml),
]
