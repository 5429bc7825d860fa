"""PyG transforms of a dataset."""

from graphdiff.transforms.cold_items import ColdItems
from graphdiff.transforms.drop_features import DropFeatures
from graphdiff.transforms.drop_unlikely import DropUnlikely
from graphdiff.transforms.inject_noise import InjectNoise
from graphdiff.transforms.keep_modalities import KeepModalities
from graphdiff.transforms.modality_graph import ModalityGraph
from graphdiff.transforms.replace_features import ReplaceFeatures
from graphdiff.transforms.sample_users import SampleUsers

__all__ = [
    "ColdItems",
    "DropFeatures",
    "DropUnlikely",
    "InjectNoise",
    "KeepModalities",
    "ModalityGraph",
    "ReplaceFeatures",
    "SampleUsers",
]
