"""The data schema: what a ``HeteroData`` must contain for graphdiff to read it.

==================================================  =========================================
where                                               what
==================================================  =========================================
``data['user'].num_nodes``                          int, U ≥ 1
``data['item'].num_nodes``                          int, I ≥ 1
``data['item'].x_<modality>``                       float32 ``[I, F]``, finite; any number of
                                                    modalities, none included
``data['item'].has_<modality>``                     bool ``[I]``; where it is False the row of
                                                    ``x_<modality>`` is zero and has no meaning
``data['user','interacts','item'].edge_index``      long ``[2, E]``, E ≥ 1; *training*
                                                    interactions only, each once
``….time``                                          optional; int32, long or finite floating
                                                    ``[E]``: when each training interaction
                                                    happened, in any unit; only the order within
                                                    a user counts
``….val_edge_label_index``                          long ``[2, *]`` on the same edge store:
``….test_edge_label_index``                         held-out pairs, possibly none
``data['item','similar_<modality>','item']``        optional; long ``edge_index`` ``[2, *]`` and
                                                    floating ``edge_weight`` ``[*]``, built by
                                                    :class:`~graphdiff.transforms.ModalityGraph`
``data['user'].raw_id``, ``data['item'].raw_id``    optional; long ``[N]`` or a list of N str; an
                                                    index is its own raw id where absent
``data['item'].title``, ``.category``, ``.image``   optional; lists of I str for display, see
                                                    :class:`~graphdiff.schema.ItemDetails`
==================================================  =========================================

A user or an item without training interactions is allowed: it is cold. A store may contain further
attributes (the synthetic dataset stores its ground truth there); no model reads what is not listed.

On input a missing feature row is all NaN. :func:`build_data` builds a graph from arrays and
:func:`prepare` completes one built by hand; both convert NaN rows to the mask. :func:`validate`
rejects a graph that still contains NaN, so this step cannot be forgotten.
"""

from graphdiff.schema.build import build_data, complete_masks, prepare
from graphdiff.schema.checks import validate
from graphdiff.schema.details import DETAILS, ItemDetails, details_in
from graphdiff.schema.features import checked_features
from graphdiff.schema.identity import fingerprint
from graphdiff.schema.ids import index_of, raw_ids
from graphdiff.schema.names import INTERACTS, ITEM, SPLITS, USER, modalities, similar

__all__ = [
    "DETAILS",
    "INTERACTS",
    "ITEM",
    "SPLITS",
    "USER",
    "ItemDetails",
    "build_data",
    "checked_features",
    "complete_masks",
    "details_in",
    "fingerprint",
    "index_of",
    "modalities",
    "prepare",
    "raw_ids",
    "similar",
    "validate",
]
