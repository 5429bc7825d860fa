"""Tables and options to fuzz: text with quotes, folders of parts, option values."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from torch_geometric.data import HeteroData

from graphdiff.datasets import CiteULike, InteractionLog, SyntheticMultimedia, from_frame, load
from graphdiff.datasets.io.tables import read_table
from graphdiff.options import dataset_options
from graphdiff.schema import build_data
from tests.fuzz.targets import Sample, Target

COMMENTS = ["plain", 'said "so"', "two\nlines", "a,b;c|d", "", "é::ü", '"', "x\r\ny", " ", "\t"]
#: Delimiters, and what tables with them are called.
DELIMITERS = {
    ",": "a.csv",
    ";": "b.csv",
    "|": "c.txt",
    "é": "d.csv",
    "\t": "e.tsv",
    "::": "f.dat",
}


def _rows() -> list[list[str]]:
    header = ["user", "item", "timestamp", "rating", "comment"]
    rows = [
        [f"u{n % 6}", str(n % 5), f"2020-01-{n % 28 + 1:02}", str(n % 5 + 0.5), COMMENTS[n % 10]]
        for n in range(30)
    ]
    return [header, *rows]


def _written(delimiter: str, line_end: str = "\n") -> bytes:
    if len(delimiter) > 1 or delimiter == "\t":
        lines = [delimiter.join(row[:4]) for row in _rows()]
        return (line_end.join(lines) + line_end).encode()
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=line_end).writerows(_rows())
    return file.getvalue().encode()


def _text_tables() -> list[Sample]:
    samples = [{name: _written(delimiter)} for delimiter, name in DELIMITERS.items()]
    samples += [{"a.csv": _written(",", "\r\n")}]
    compressed = {"g.csv.gz": gzip.compress(_written(","))}
    compressed["h.tsv.bz2"] = bz2.compress(_written("\t"))
    return [*samples, compressed]


def _read_text_tables(folder: Path) -> object:
    delimiters = {name: delimiter for delimiter, name in DELIMITERS.items()}
    return [
        read_table(path, ids=("user", "item"), delimiter=delimiters.get(path.name))
        for path in sorted(folder.iterdir())
    ]


def _logs() -> list[Sample]:
    texts = b"item,text\n" + b"".join(
        b'%d,"graph, ""deep""\nmodel %d"\n' % (n, n) for n in range(5)
    )
    items = b"item\n" + b"".join(b"%d\n" % n for n in range(5))
    return [
        {"interactions.csv": _written(","), "names.csv": texts},
        {"interactions.csv": _written(",", "\r\n"), "names.csv": texts, "items.csv": items},
    ]


def _read_log(folder: Path) -> object:
    arguments: dict[str, Any] = {"content": {"text": "names.csv"}, "encoder": "tfidf"}
    return InteractionLog(folder, by="time", min_rating=1, force_reload=True, **arguments)


def _parts() -> list[Sample]:
    def part(**columns: Any) -> bytes:
        file = io.BytesIO()
        pd.DataFrame(columns).to_parquet(file)
        return file.getvalue()

    folder = "interactions.parquet"
    first = part(user=[1, 2, 2], item=["a", "b", "a"], rating=[1, 2, 3])
    return [
        {
            f"{folder}/_SUCCESS": b"",
            f"{folder}/part-0.parquet": first,
            f"{folder}/part-1.parquet": part(item=["b"], user=[1.0], rating=[4.5]),
        },
        {
            f"{folder}/split={split}/part-0.parquet": part(user=[1, 2], item=[n, n + 1])
            for n, split in enumerate(("train", "val", "test"))
        },
    ]


def _citeulike() -> list[Sample]:
    return [
        {
            "users.dat": b"4 0 1 2 4\n3 3 2 0\n4 0 1 2 3\n1 2\n",
            "item-tag.dat": b"2 0 1\n0\n1 2\n2 1 3\n1 3\n",
            "tags.dat": b"graph\ndeep_learning\nr\nbiology\n",
        }
    ]


class InstantMultimedia(SyntheticMultimedia):
    """The arguments of the synthetic dataset without the time that it takes."""

    name = "instant"

    def read(self) -> HeteroData:
        """Make a graph of one interaction."""
        return build_data(1, 1, [[0], [0]])


OPTIONS = {
    "csv": "ratios=[0.8, 0.1, 0.1]\nseed=3\nk_core=2\nmin_rating=1.5\nsplit=ratio\nby=time\n"
    "timestamp=timestamp\nduplicates=last\ndelimiter=,\nnames=null\nforce_reload=true\n",
    "recbole": "user=user_id\nitem=item_id\nsplit=leave_one_out\nfeatures={}\n",
    "mmrec": "features={text: text_feat.npy}\nuser=userID\nitem=itemID\n",
    "instant": "seed=5\nnum_users=50\nnum_items=30\nnoise=0.2\ntransform=null\n",
}


def _options() -> list[Sample]:
    recbole = b"user_id:token\titem_id:token\n" + b"".join(
        b"%d\t%d\n" % (n % 6, n % 5) for n in range(30)
    )
    mmrec = b"userID\titemID\tx_label\n" + b"".join(
        b"%d\t%d\t0\n" % (n % 6, n % 5) for n in range(30)
    )
    file = io.BytesIO()
    np.save(file, np.ones((5, 2), np.float32))
    folders: dict[str, Sample] = {
        "csv": {"interactions.csv": _written(",")},
        "recbole": {"a.inter": recbole},
        "mmrec": {"a.inter": mmrec, "text_feat.npy": file.getvalue()},
        "instant": {},
    }
    return [{f"{name}.options": text.encode(), **folders[name]} for name, text in OPTIONS.items()]


def _read_options(folder: Path) -> object:
    (path,) = folder.glob("*.options")
    # A command line has no bytes that are no text.
    lines = path.read_bytes().decode(errors="replace").splitlines()
    options = dataset_options(path.stem, options=[line for line in lines if line])
    return load(path.stem, folder, **options)


def _frames() -> list[Sample]:
    rows = [[user, item, 1.5] for user, item in zip("abcab", "xyzzx", strict=True)]
    return [{"frame.csv": pd.DataFrame(rows, columns=["user", "item", "rating"]).to_csv().encode()}]


def _read_frame(folder: Path) -> object:
    """Read what pandas makes of a damaged table, with its NaN and its mixed types."""
    try:
        frame = pd.read_csv(folder / "frame.csv", encoding_errors="replace")
    except (ValueError, OverflowError, csv.Error, pa.ArrowException):
        return None  # pandas' own refusal.
    return from_frame(frame, by="random")


TABLES = [
    Target("text tables", _text_tables, _read_text_tables),
    Target("log with texts", _logs, _read_log),
    Target("parts of a table", _parts, lambda f: InteractionLog(f, force_reload=True)),
    Target("CiteULike folder", _citeulike, lambda f: CiteULike(f, force_reload=True)),
    Target("options of datasets", _options, _read_options),
    Target("DataFrame", _frames, _read_frame),
]
