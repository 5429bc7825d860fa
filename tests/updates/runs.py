"""A small RUN and files of new interactions for it."""

import shutil

import pandas as pd

from graphdiff.runs import train_run
from graphdiff.training.config import run_config

OPTIONS = {"seed": 3, "num_users": 60, "num_items": 40}
SETTINGS = {"hidden_channels": 8, "batch_size": 32, "objective.num_negatives": 16}


def train(folder, model="ld4mrec", epochs=2):
    settings = SETTINGS if model == "ld4mrec" else {"hidden_channels": 8}
    train_run(
        folder,
        run_config(
            {
                "model": {"name": model, "settings": settings},
                "dataset": {"name": "synthetic", "options": OPTIONS},
                "training": {"epochs": epochs, "accelerator": "cpu"},
            }
        ),
        progress=False,
    )
    return folder


def write_batch(folder, users=(3, 70, 71), items=(5, 50, 39, 51), name="day.csv"):
    """A file in which each of some users has each of some items."""
    path = folder / name
    pairs = [(user, item) for user in users for item in items]
    pd.DataFrame(pairs, columns=["user", "item"]).to_csv(path, index=False)
    return path


def write_features(folder, items=(50, 39), name="image.parquet"):
    path = folder / name
    rows = [[float(n + item) for n in range(64)] for item in items]
    pd.DataFrame({"item": items, "x_image": rows}).to_parquet(path)
    return path


def files_of(folder):
    """The content of all files of a RUN, by their names; locks have none."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def copied(folder, to):
    shutil.copytree(folder, to)
    return to
