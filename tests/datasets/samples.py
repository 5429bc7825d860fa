"""A small dataset, and functions that write it in every layout."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from graphdiff.datasets import to_parquet
from graphdiff.schema import INTERACTS, build_data

USERS, ITEMS = 30, 20
SPLITS = ("train", "val", "test")


def sample(seed=0):
    """Return pairs ``[2, *]`` of each split, every user in each and every item in training, and
    features ``[I, F]``."""
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(ITEMS) for _ in range(USERS)])
    order[:ITEMS, 0] = np.arange(ITEMS)  # Every item is in training.
    for row, first in zip(order, order[:, 0], strict=True):
        row[1:] = rng.permutation(np.delete(np.arange(ITEMS), first))
    user = np.arange(USERS)
    pairs = {
        split: np.stack([user.repeat(len(columns)), order[:, columns].ravel()])
        for split, columns in zip(SPLITS, ([0, 1, 2, 3], [4], [5]), strict=True)
    }
    features = {"image": rng.normal(size=(ITEMS, 5)), "text": rng.normal(size=(ITEMS, 3))}
    return pairs, {name: x.astype(np.float32) for name, x in features.items()}


def expected():
    """Return the graph that every layout is read to, except for raw ids."""
    pairs, features = sample()
    return build_data(USERS, ITEMS, *pairs.values(), features)


def rows():
    """Return (user, item, split) of every pair."""
    return [(*p, split) for split, pairs in sample()[0].items() for p in pairs.T.tolist()]


def mmrec(folder):
    lines = "".join(f"{u}\t{i}\t{SPLITS.index(split)}\n" for u, i, split in rows())
    (folder / "toys.inter").write_text("userID\titemID\tx_label\n" + lines)
    save_features(folder, "{}_feat.npy")


def diffmm(folder):
    names = ("trnMat.pkl", "valMat.pkl", "tstMat.pkl")
    for name, pairs in zip(names, sample()[0].values(), strict=True):
        matrix = sp.coo_matrix((np.ones(pairs.shape[1]), tuple(pairs)), shape=(USERS, ITEMS))
        (folder / name).write_bytes(pickle.dumps(matrix))
    save_features(folder, "{}_feat.npy")


def mmssl(folder):
    for split, pairs in sample()[0].items():
        lists = {str(u): pairs[1][pairs[0] == u].tolist() for u in range(USERS)}
        (folder / f"{split}.json").write_text(json.dumps(lists))
    save_features(folder, "{}_feat.npy")


def pairs(folder):
    names = ("train_list.npy", "valid_list.npy", "test_list.npy")
    for name, found in zip(names, sample()[0].values(), strict=True):
        np.save(folder / name, found.T)
    save_features(folder, "{}_feat.npy")


def recbole(folder):
    for split, name in zip(SPLITS, ("train", "valid", "test"), strict=True):
        lines = "".join(f"{u}\t{i}\n" for u, i, s in rows() if s == split)
        (folder / f"toys.{name}.inter").write_text("user_id:token\titem_id:token\n" + lines)
    image, text = sample()[1].values()
    numbers = [[" ".join(map(repr, row)) for row in table.tolist()] for table in (image, text)]
    lines = "".join(
        f"{i}\tname of {i}\t{numbers[0][i]}\t{numbers[1][i]}\n" for i in reversed(range(ITEMS))
    )
    header = "item_id:token\ttitle:token_seq\timage:float_seq\ttext:float_seq\n"
    (folder / "toys.item").write_text(header + lines)


def csv(folder):
    lines = "".join(f"{u},{i},{split}\n" for u, i, split in rows())
    (folder / "interactions.csv").write_text("user,item,split\n" + lines)
    save_features(folder, "features_{}.npy")


def parquet(folder):
    found = [pa.array(column) for column in zip(*rows(), strict=True)]
    table = pa.table(dict(zip(("user", "item", "split"), found, strict=True)))
    pq.write_table(table, folder / "interactions.parquet", row_group_size=50)
    image, text = sample()[1].values()
    order = np.random.default_rng(1).permutation(ITEMS)
    pq.write_table(
        pa.table({"item": order, "x_image": list(image[order])}), folder / "features_image.parquet"
    )
    columns = {f"x_text_{n}": text[order, n] for n in range(text.shape[1])}
    pq.write_table(pa.table({"item": order, **columns}), folder / "features_text.parquet")


def converted(folder):
    folder.rmdir()
    to_parquet(expected(), folder, "toys")


#: The function that writes each layout, and the name of the dataset that reads it.
LAYOUTS = {
    "mmrec": (mmrec, "mmrec"),
    "diffmm": (diffmm, "diffmm"),
    "mmssl": (mmssl, "diffmm"),
    "pairs": (pairs, "pairs"),
    "recbole": (recbole, "recbole"),
    "csv": (csv, "csv"),
    "parquet": (parquet, "parquet"),
    "converted": (converted, "parquet"),
}


def save_features(folder, name):
    for modality, table in sample()[1].items():
        np.save(folder / name.format(modality), table)


def as_pairs(data, attribute):
    return sorted(map(tuple, data[INTERACTS][attribute].t().tolist()))
