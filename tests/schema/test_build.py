"""Validation of a graph: valid data is kept exactly, invalid data is rejected."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from graphdiff.errors import DataError
from graphdiff.schema import (
    INTERACTS,
    build_data,
    complete_masks,
    modalities,
    prepare,
    similar,
    validate,
)
from tests.schema.samples import arguments

NAN, INF = float("nan"), float("inf")


def by_hand():
    data = HeteroData()
    data["user"].num_nodes = 3
    data["item"].num_nodes = 4
    data["item"].x_image = torch.tensor([[1.0, 2.0], [NAN, NAN], [0.0, 0.0], [3.0, 4.0]])
    data[INTERACTS].edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
    return data


class TestBuild:
    def test_everything_arrives(self):
        data = build_data(**arguments())
        assert data["user"].num_nodes == 3
        assert data["item"].num_nodes == 4
        assert modalities(data) == ["audio", "image"]
        assert data["item"].x_image.dtype == torch.float32
        assert data["item"].x_image.tolist() == np.arange(8.0).reshape(4, 2).tolist()
        assert data["item"].has_image.all()
        assert data[INTERACTS].edge_index.tolist() == [[0, 0, 1], [0, 1, 2]]
        assert data[INTERACTS].val_edge_label_index.tolist() == [[1], [0]]
        assert data[INTERACTS].test_edge_label_index.tolist() == [[2], [1]]

    def test_only_training_interactions_is_enough(self):
        data = build_data(2, 2, torch.tensor([[0], [1]]))
        assert modalities(data) == []
        assert data[INTERACTS].val_edge_label_index.shape == (2, 0)
        assert data[INTERACTS].test_edge_label_index.dtype == torch.long

    @pytest.mark.parametrize(
        ("times", "kept"),
        [
            ([3, 1, 2], torch.tensor([3, 1, 2])),
            (np.array([3, 1, 2], np.int32), torch.tensor([3, 1, 2])),
            (np.array([3, 1, 2**63 - 1], np.uint64), torch.tensor([3, 1, 2**63 - 1])),
            (np.array([3, 1, 2**63], np.uint64), torch.tensor([3.0, 1.0, 2.0**63]).double()),
            (torch.tensor([0.5, 1.0, -2.0]), torch.tensor([0.5, 1.0, -2.0]).double()),
        ],
    )
    def test_times_become_long_or_double(self, times, kept):
        found = build_data(**arguments(train_time=times))[INTERACTS].time
        assert found.dtype == kept.dtype
        assert torch.equal(found, kept)

    def test_times_are_optional(self):
        assert "time" not in build_data(**arguments())[INTERACTS]

    @pytest.mark.parametrize(
        ("times", "message"),
        [
            ([1, 2], r"times of training pairs have shape \[2\] but there are 3 training pairs"),
            ([[1], [2], [3]], r"have shape \[3, 1\]"),
            ([1, NAN, INF], "2 training pairs are without a finite time; give each a number"),
            ([True, False, True], "times of training pairs are torch.bool; give real numbers"),
            (["1", "2", "3"], "times of training pairs cannot be read as an array of numbers"),
            (np.ma.masked_equal([1, 2, 3], 2), "have masked entries; give times without"),
        ],
    )
    def test_other_times_are_refused(self, times, message):
        with pytest.raises(DataError, match=message):
            build_data(**arguments(train_time=times))

    def test_nan_rows_become_the_mask(self):
        image = np.array([[1, 2], [NAN, NAN], [0, 0], [3, 4]])
        data = build_data(**arguments(features={"image": image}))
        assert data["item"].has_image.tolist() == [True, False, True, True]
        assert data["item"].x_image[1].tolist() == [0, 0]
        assert np.isnan(image[1]).all()

    @pytest.mark.parametrize("dtype", ["float16", "float64", "int32", ">f4", "uint8"])
    def test_features_of_any_real_dtype_become_float32(self, dtype):
        data = build_data(**arguments(features={"image": np.full((4, 2), 200, dtype=dtype)}))
        assert data["item"].x_image.dtype == torch.float32
        assert (data["item"].x_image == 200).all()

    def test_read_only_arrays_are_accepted(self):
        train = np.array([[0, 1], [1, 2]], dtype=np.int32)
        train.setflags(write=False)
        assert build_data(**arguments(train=train))[INTERACTS].edge_index.dtype == torch.long

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"num_users": 0}, "graph has 0 users"),
            ({"num_items": 0}, "graph has 0 items"),
            ({"num_items": 2**31}, "graph has 2147483648 items"),
            ({"num_users": 2.0}, "num_nodes is of type float"),
            ({"train": [[], []]}, "no training interactions"),
            ({"train": [[0.5], [1.0]]}, "training pairs are .*float64; give integer"),
            ({"train": [[True], [True]]}, "training pairs are .*bool; give integer"),
            (
                {"train": np.ma.MaskedArray([[0, 1], [1, 2]], [[0, 0], [0, 1]])},
                "training pairs have masked entries; give pairs without missing values",
            ),
            ({"train": [0, 1, 2]}, r"edge_index has shape \[3\]; give \[2, \*\]"),
            ({"train": [[0, 1], [1, 2], [2, 3]]}, r"edge_index has shape \[3, 2\]"),
            ({"train": [["a"], ["b"]]}, "training pairs cannot be read as an array of numbers"),
            ({"train": [[0, 1], [0]]}, "training pairs cannot be read as an array of numbers"),
            ({"train": [[0, 3], [0, 1]]}, "1 training pair is out of range: user index 3; .*to 2"),
            ({"train": [[0, 1], [-1, 4]]}, "2 training pairs are out of range: item index -1, 4"),
            ({"val": [[0], [9]]}, "1 validation pair is out of range: item index 9"),
            ({"test": [[0], [9]]}, "1 test pair is out of range: item index 9"),
            ({"train": [[0, 0], [1, 1]]}, "1 training pair is given more than once: user 0 item 1"),
            ({"test": [[2, 2], [1, 1]]}, "1 test pair is given more than once: user 2 item 1"),
            ({"val": [[0], [0]]}, "1 validation pair is also found among the training pairs: user"),
            ({"test": [[0, 1], [1, 2]]}, "2 test pairs are also found among the training pairs"),
            ({"test": [[1], [0]]}, "1 test pair is also found among the validation pairs"),
            (
                {"features": {"image": np.ones((3, 2))}},
                "x_image has 3 rows but the graph has 4 items; give one row per item, NaN where an "
                "item has no image",
            ),
            ({"features": {"image": np.ones(4)}}, r"x_image has shape \[4\]"),
            ({"features": {"image": np.ones((4, 0))}}, r"x_image has shape \[4, 0\]"),
            ({"features": {"image": np.ones((4, 2)) * 1j}}, "x_image is .*complex128; give real"),
            ({"features": {"image": np.full((4, 2), "x")}}, "x_image cannot be read"),
            ({"features": {"an image": np.ones((4, 2))}}, "'an image' cannot name a modality"),
            (
                {"features": {"image": [[1, INF], [0, 0], [-INF, 0], [0, 0]]}},
                r"2 of 4 items \(0, 2\) have an infinite value in x_image",
            ),
            (
                {"features": {"image": [[1, 2], [NAN, 0], [0, 0], [0, 0]]}},
                r"1 of 4 items \(1\) has NaN in part of the row of x_image",
            ),
            ({"user_ids": ["a", "b"]}, "there are 2 raw user ids but 3 users"),
            ({"item_ids": [5, 6, 5, 6]}, "2 raw item ids are given more than once: 5, 6"),
            ({"item_ids": [5, "a", 7, 8]}, "raw item ids must be all integers or all str"),
            ({"item_ids": [1.5, 2.5, 3.5, 4.5]}, "found 1.5 among them"),
            ({"item_ids": [1, 2, 3, 2**70]}, "raw item id 1180591620717411303424 has more than 64"),
            (
                {"item_ids": np.array([1, 2, 3, 2**63], np.uint64)},
                "id 9223372036854775808 has more",
            ),
            (
                {"user_ids": ["a", "\ud800", "b"]},
                r"raw user id '\\ud800' is not valid Unicode text",
            ),
            ({"item_ids": torch.ones(4)}, r"raw item ids are a float32 tensor \[4\]"),
        ],
    )
    def test_refuses_what_does_not_fit(self, changes, message):
        with pytest.raises(DataError, match=message):
            build_data(**arguments(**changes))

    def test_float64_beyond_float32_is_refused_as_infinite(self):
        with pytest.raises(DataError, match="infinite value in x_image"):
            build_data(**arguments(features={"image": np.full((4, 1), 1e300)}))

    def test_messages_show_raw_ids_and_only_a_few(self):
        ids = [f"i{n}" for n in range(9)]
        pairs = [[0] * 5, list(range(5))]
        with pytest.raises(DataError, match=r"5 test pairs .*user 0 item 'i0'.*'i2', …"):
            build_data(1, 9, pairs, test=pairs, item_ids=ids)


class TestByHand:
    def test_nan_without_a_mask_is_refused_and_prepare_completes_it(self):
        data = prepare(by_hand())
        validate(data)
        assert data["item"].has_image.tolist() == [True, False, True, True]
        raw = by_hand()
        raw[INTERACTS].update(data[INTERACTS])
        with pytest.raises(DataError, match=r"no mask has_image .* graphdiff\.schema\.prepare"):
            validate(raw)

    def test_prepare_leaves_its_argument_as_it_was(self):
        data = by_hand()
        prepare(data)
        assert data["item"].x_image[1].isnan().all()
        assert "has_image" not in data["item"]
        assert "val_edge_label_index" not in data[INTERACTS]

    def test_a_given_mask_is_kept_and_its_rows_are_emptied(self):
        data = by_hand()
        data["item"].has_image = torch.tensor([False, True, True, True])
        data = complete_masks(data)
        assert data["item"].has_image.tolist() == [False, False, True, True]
        assert data["item"].x_image[0].tolist() == [0, 0]

    def test_values_behind_a_false_mask_are_refused(self):
        data = prepare(by_hand())
        data["item"].has_image = torch.zeros(4, dtype=torch.bool)
        with pytest.raises(DataError, match=r"2 of 4 items \(0, 3\) have values in x_image though"):
            validate(data)

    @pytest.mark.parametrize(
        ("store", "name", "value", "message"),
        [
            ("item", "x_image", torch.ones(4, 2).double(), "x_image is a float64 tensor"),
            (
                "item",
                "x_image",
                torch.ones(4, 2).to_sparse(),
                "x_image is a sparse_coo float32 tensor",
            ),
            ("item", "x_image", [[1.0]] * 4, "x_image is of type list"),
            ("item", "has_image", torch.ones(4), "has_image is a float32 tensor"),
            ("item", "has_image", torch.ones(3).bool(), r"has_image is a bool tensor \[3\]"),
            (INTERACTS, "edge_index", torch.ones(2, 1), "edge_index is a float32 tensor"),
            (INTERACTS, "edge_index", torch.ones(2, 1).int(), "edge_index is a int32 tensor"),
            ("user", "raw_id", ("a", "b", "c"), "raw user ids are of type tuple"),
        ],
    )
    def test_wrong_types_are_refused(self, store, name, value, message):
        data = prepare(by_hand())
        data[store][name] = value
        with pytest.raises(DataError, match=message):
            validate(data)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"edge_index": torch.tensor([[0], [4]])}, "1 similar_image edge is out of range"),
            ({"edge_weight": torch.tensor([NAN])}, "one finite number for each of the 1 edges"),
            ({"edge_weight": torch.ones(2)}, "one finite number for each of the 1 edges"),
            ({"edge_weight": None}, "edge_weight of similar_image is of type NoneType"),
        ],
    )
    def test_a_broken_modality_graph_is_refused(self, change, message):
        data = prepare(by_hand())
        store = data[similar("image")]
        store.edge_index, store.edge_weight = torch.tensor([[0], [3]]), torch.ones(1)
        validate(data)
        store.update(change)
        with pytest.raises(DataError, match=message):
            validate(data)

    def test_missing_stores_are_named_and_not_made(self):
        data = HeteroData()
        with pytest.raises(DataError, match=r"data\['user'\].num_nodes"):
            validate(data)
        data["user"].num_nodes = data["item"].num_nodes = 2
        with pytest.raises(DataError, match=r"no edges of type \('user', 'interacts', 'item'\)"):
            prepare(data)
        assert data.edge_types == []
        with pytest.raises(DataError, match=r"expected a .*HeteroData, found of type dict"):
            validate({})

    def test_held_out_pairs_must_be_there(self):
        data = prepare(by_hand())
        del data[INTERACTS].test_edge_label_index
        with pytest.raises(DataError, match=r"no test_edge_label_index; .*prepare"):
            validate(data)

    def test_cold_users_and_items_are_legal(self):
        data = prepare(by_hand())
        assert 2 not in data[INTERACTS].edge_index[0]
        assert 3 not in data[INTERACTS].edge_index[1]


@st.composite
def split_pairs(draw):
    """A random graph's sizes and three disjoint sets of pairs, training not empty."""
    num_users, num_items = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    pair = st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1))
    pairs = draw(st.lists(pair, min_size=1, unique=True))
    split = [0, *(draw(st.integers(0, 2)) for _ in pairs[1:])]
    parts = [[p for p, s in zip(pairs, split, strict=True) if s == n] for n in range(3)]
    return num_users, num_items, parts


def as_array(pairs):
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


@given(split_pairs(), st.data())
@settings(max_examples=60, deadline=None)
def test_random_graphs_pass_and_a_leaked_pair_is_refused(graph, data):
    num_users, num_items, (train, val, test) = graph
    validate(build_data(num_users, num_items, *map(as_array, (train, val, test))))
    leak = data.draw(st.sampled_from(train))
    for parts in ((train, [*val, leak], test), (train, val, [*test, leak])):
        with pytest.raises(DataError, match="also found among the training pairs"):
            build_data(num_users, num_items, *map(as_array, parts))
