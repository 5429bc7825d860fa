"""The one data schema: what a ``HeteroData`` must hold for graphdiff to read it.

==================================================  =========================================
where                                               what
==================================================  =========================================
``data['user'].num_nodes``                          int, U ≥ 1
``data['item'].num_nodes``                          int, I ≥ 1
``data['item'].x_<modality>``                       float32 ``[I, F]``, finite; any number of
                                                    modalities, none included
``data['item'].has_<modality>``                     bool ``[I]``; where it is False the row of
                                                    ``x_<modality>`` is zero and means nothing
``data['user','interacts','item'].edge_index``      long ``[2, E]``, E ≥ 1; *training*
                                                    interactions only, each once
``….val_edge_label_index``                          long ``[2, *]`` on the same edge store:
``….test_edge_label_index``                         held-out pairs, possibly none
``data['item','similar_<modality>','item']``        optional; long ``edge_index`` ``[2, *]`` and
                                                    floating ``edge_weight`` ``[*]``, made by
                                                    :class:`~graphdiff.transforms.ModalityGraph`
``data['user'].raw_id``, ``data['item'].raw_id``    optional; long ``[N]`` or a list of N str; an
                                                    index is its own raw id where absent
==================================================  =========================================

A user or an item without any training interaction is legal: it is cold. A store may hold more than
this (the synthetic dataset keeps its ground truth beside it); no model reads what is not listed.

On the way in a missing feature row is all NaN. :func:`build_data` makes a graph from arrays and
:func:`prepare` takes one made by hand; both turn NaN rows into the mask. :func:`validate` refuses
a graph that still holds NaN, so the step cannot be forgotten.
"""

from graphdiff.schema.build import build_data, complete_masks, prepare
from graphdiff.schema.checks import validate
from graphdiff.schema.features import read_features
from graphdiff.schema.identity import fingerprint
from graphdiff.schema.ids import index_of, raw_ids
from graphdiff.schema.names import INTERACTS, ITEM, SPLITS, USER, modalities, similar

__all__ = [
    "INTERACTS",
    "ITEM",
    "SPLITS",
    "USER",
    "build_data",
    "complete_masks",
    "fingerprint",
    "index_of",
    "modalities",
    "prepare",
    "raw_ids",
    "read_features",
    "similar",
    "validate",
]
