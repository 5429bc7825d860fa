"""Datasets: each is a PyG ``InMemoryDataset`` whose ``[0]`` is one ``HeteroData``."""

from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.convert import to_parquet
from graphdiff.datasets.io.archives import extract
from graphdiff.datasets.layouts.diffmm import DiffMMLayout
from graphdiff.datasets.layouts.frame import from_frame
from graphdiff.datasets.layouts.log import InteractionLog
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.datasets.layouts.mmrec import MMRecLayout
from graphdiff.datasets.layouts.pairs import PairListsLayout, read_pair_lists
from graphdiff.datasets.layouts.recbole import RecBoleLayout
from graphdiff.datasets.mapped.dataset import MappedDataset
from graphdiff.datasets.mapped.write import to_mapped
from graphdiff.datasets.published.citeulike import CiteULike
from graphdiff.datasets.published.movielens import MovieLens1M
from graphdiff.datasets.published.synthetic import SyntheticMultimedia, true_preference
from graphdiff.datasets.published.synthetic_drift import SyntheticDrift
from graphdiff.datasets.published.tiktok import TikTok
from graphdiff.datasets.pyg import from_link_split, from_pyg
from graphdiff.datasets.registry import DATASETS, load, parse_options

__all__ = [
    "DATASETS",
    "CiteULike",
    "DiffMMLayout",
    "InteractionLog",
    "LogSettings",
    "MMRecLayout",
    "MappedDataset",
    "MovieLens1M",
    "PairListsLayout",
    "RecBoleLayout",
    "RecDataset",
    "SyntheticDrift",
    "SyntheticMultimedia",
    "TikTok",
    "extract",
    "from_frame",
    "from_link_split",
    "from_pyg",
    "load",
    "parse_options",
    "read_pair_lists",
    "to_mapped",
    "to_parquet",
    "true_preference",
]
