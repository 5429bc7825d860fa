"""A graph is read as it was written, and a damaged file is refused."""

import pytest
import torch
from torch_geometric.data import HeteroData

from graphdiff.datasets.io.storage import load_graph, read_source, save_graph
from graphdiff.errors import DataError
from graphdiff.schema import INTERACTS, build_data, fingerprint, validate
from graphdiff.transforms import ModalityGraph


@pytest.fixture
def data():
    data = build_data(
        3,
        4,
        [[0, 0, 1], [0, 1, 2]],
        val=[[1], [0]],
        features={"image": torch.randn(4, 2, generator=torch.Generator().manual_seed(0))},
        user_ids=[5, 6, 7],
        item_ids=["a", "ß", "c/d", '"'],
    )
    data[INTERACTS].is_noise = torch.tensor([True, False, True])
    data.note = {"made": ["by hand", 1, 2.5, None]}
    return ModalityGraph(k=2)(data)


def assert_same(one: HeteroData, other: HeteroData) -> None:
    assert one.node_types == other.node_types
    assert set(one.edge_types) == set(other.edge_types)
    for store, twin in zip(
        one.stores,
        (other[s._key] if s._key else other._global_store for s in one.stores),
        strict=True,
    ):
        assert set(store.keys()) == set(twin.keys())
        for name, value in store.items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == twin[name].dtype
                assert torch.equal(value, twin[name])
            else:
                assert value == twin[name]


def test_a_graph_is_read_as_it_was_written(tmp_path, data):
    save_graph(data, tmp_path / "g.safetensors", source="a test")
    back = load_graph(tmp_path / "g.safetensors")
    assert_same(data, back)
    validate(back)
    assert fingerprint(back) == fingerprint(data)
    assert read_source(tmp_path / "g.safetensors") == "a test"


@pytest.mark.parametrize("dtype", [torch.long, torch.double])
def test_times_of_interactions_are_saved(tmp_path, data, dtype):
    num = data["user", "interacts", "item"].edge_index.size(1)
    data["user", "interacts", "item"].time = torch.arange(num).to(dtype).flip(0)
    save_graph(data, tmp_path / "g.safetensors")
    back = load_graph(tmp_path / "g.safetensors")
    assert_same(data, back)
    assert fingerprint(back) == fingerprint(data)


def test_views_and_slices_are_saved(tmp_path, data):
    both = torch.arange(12).reshape(3, 4)
    data["item"].left, data["item"].right = both[:, :2], both.t()
    save_graph(data, tmp_path / "g.safetensors")
    assert_same(data, load_graph(tmp_path / "g.safetensors"))


def test_nothing_is_left_beside_the_file(tmp_path, data):
    save_graph(data, tmp_path / "g.safetensors")
    save_graph(data, tmp_path / "g.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["g.safetensors"]


def test_values_that_json_cannot_hold_are_refused_and_the_old_file_stays(tmp_path, data):
    save_graph(data, tmp_path / "g.safetensors", source="old")
    data["item"].thing = object()
    with pytest.raises(DataError, match="the graph holds what cannot be saved"):
        save_graph(data, tmp_path / "g.safetensors", source="new")
    assert read_source(tmp_path / "g.safetensors") == "old"


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 99])
def test_a_damaged_file_is_refused(tmp_path, data, damage):
    path = tmp_path / "g.safetensors"
    save_graph(data, path)
    path.write_bytes(damage(path.read_bytes()))
    assert read_source(path) is None
    with pytest.raises(DataError, match="cannot be read as a graph"):
        load_graph(path)


def test_another_safetensors_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    assert read_source(tmp_path / "model.safetensors") is None
    with pytest.raises(DataError, match="is not a graph written by this version"):
        load_graph(tmp_path / "model.safetensors")


def test_a_missing_file_is_refused(tmp_path):
    assert read_source(tmp_path / "none") is None
    with pytest.raises(DataError, match="cannot be read as a graph"):
        load_graph(tmp_path / "none")
