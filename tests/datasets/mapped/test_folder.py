"""A mapped folder holds the same data, opens without reading it, and is not trusted."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import graphdiff
from graphdiff.datasets import MappedDataset, load, to_mapped, to_parquet
from graphdiff.datasets.mapped.folder import read_manifest
from graphdiff.errors import ConfigError, DataError
from graphdiff.evaluation import evaluate
from graphdiff.graph import RecGraph
from graphdiff.models import LD4MRec
from graphdiff.schema import build_data, fingerprint, validate
from graphdiff.transforms import ModalityGraph, SampleUsers
from tests.command import run
from tests.conftest import random_data

EDGES = ("user", "interacts", "item")


def is_mapped(tensor, name):
    """Whether a tensor lies in the mapping of a file; true where the system does not say."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return True
    bounds = [line.split()[0].split("-") for line in maps.read_text().splitlines() if name in line]
    return any(int(low, 16) <= tensor.data_ptr() < int(high, 16) for low, high in bounds)


def test_what_is_opened_is_what_was_written(tmp_path, multimodal_data):
    data = ModalityGraph(3)(multimodal_data)
    manifest = to_mapped(data, tmp_path / "out", "toys")
    back = load("mapped", tmp_path / "out", check=True)[0]
    validate(back)
    assert fingerprint(back) == fingerprint(data) == manifest["fingerprint"]
    for name in ("similar_image", "similar_text"):
        for part in ("edge_index", "edge_weight"):
            assert torch.equal(back["item", name, "item"][part], data["item", name, "item"][part])
    assert torch.equal(back["item"].has_image, data["item"].has_image)


@pytest.mark.parametrize("ids", [["z", "ü", "7"], [30, 10, 20], None])
def test_raw_ids_and_details(tmp_path, ids):
    details = {"title": ["a", "", "c"]}
    data = build_data(3, 3, [[0, 1], [1, 2]], user_ids=ids, item_ids=ids, details=details)
    to_mapped(data, tmp_path / "out")
    back = load("mapped", tmp_path / "out")[0]
    assert fingerprint(back) == fingerprint(data)
    assert back["item"].title == details["title"]
    assert ("raw_id" in back["user"]) == (ids is not None)


def test_arrays_are_mapped_and_not_changed(tmp_path):
    to_mapped(random_data(40, 30), tmp_path / "out")
    before = (tmp_path / "out" / "train.npy").read_bytes()
    edges = load("mapped", tmp_path / "out")[0][EDGES].edge_index
    assert is_mapped(edges, "train.npy")
    edges.fill_(7)
    assert (tmp_path / "out" / "train.npy").read_bytes() == before


def test_many_interactions_are_shared_with_the_file(tmp_path, monkeypatch):
    to_mapped(random_data(40, 30), tmp_path / "out")
    data = load("mapped", tmp_path / "out")[0]
    edges = data[EDGES].edge_index
    assert RecGraph.from_data(data).col.data_ptr() != edges[1].data_ptr()
    monkeypatch.setattr("graphdiff.graph.store.SHARED", 1)
    assert RecGraph.from_data(data).col.data_ptr() == edges[1].data_ptr()


def test_training_and_evaluation_are_the_same(tmp_path):
    data = random_data(40, 30)
    to_mapped(data, tmp_path / "out")
    found = []
    for one in (data, load("mapped", tmp_path / "out")[0]):
        model = LD4MRec.from_data(one, hidden_channels=8)
        graphdiff.fit(model, one, epochs=2, progress=False)
        found.append(evaluate(model, one))
    assert found[0] == found[1]


def test_the_command_line_converts_trains_and_evaluates(tmp_path):
    source, out, folder = tmp_path / "source", tmp_path / "out", tmp_path / "run"
    to_parquet(random_data(40, 30), source)
    done = run("convert", source, out, "--from", "parquet", "--to", "mapped")
    assert "40 users, 30 items" in done.stdout
    data = ["--dataset", "mapped", "--root", out, "--option", "held_out_users=10"]
    run("train", *data, "--model", "bprmf", "--epochs", "1", "--no-progress", "--out", folder)
    assert "recall@20" in run("evaluate", folder).stdout


def test_a_sample_of_the_users(tmp_path):
    data = random_data(40, 30)
    to_mapped(data, tmp_path / "out")
    pairs = load("mapped", tmp_path / "out", held_out_users=5)[0][EDGES].test_edge_label_index
    other = SampleUsers(5)(data)[EDGES].test_edge_label_index
    assert torch.equal(pairs[0].unique(), other[0].unique())
    assert pairs[0].unique().numel() <= 5 < data[EDGES].test_edge_label_index[0].unique().numel()
    with pytest.raises(ConfigError, match="give at least 1"):
        SampleUsers(0)(data)


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path):
        to_mapped(random_data(40, 30), tmp_path / "out")
        return tmp_path / "out"

    @staticmethod
    def change(folder, **fields):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, **fields}))

    def test_no_manifest(self, folder):
        (folder / "manifest.json").unlink()
        with pytest.raises(DataError, match=r"manifest\.json"):
            MappedDataset(folder)

    @pytest.mark.parametrize(
        "content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"format": "graphdiff.mapped.1"}']
    )
    def test_no_readable_manifest(self, folder, content):
        (folder / "manifest.json").write_bytes(content)
        with pytest.raises(DataError, match="convert"):
            MappedDataset(folder)

    def test_another_format(self, folder):
        self.change(folder, format="graphdiff.mapped.9")
        with pytest.raises(DataError, match=r"reads 'graphdiff\.mapped\.1'"):
            MappedDataset(folder)

    @pytest.mark.parametrize("users", [0, -1, 2**31, True, "7", None, 1e9])
    def test_sizes_that_cannot_be(self, folder, users):
        self.change(folder, users=users)
        with pytest.raises(DataError, match="users; expected 1 to"):
            MappedDataset(folder)

    def test_a_name_that_leads_elsewhere(self, folder):
        files = {"../../x.npy": {"bytes": 1, "sha256": "0" * 64}}
        self.change(folder, files=files)
        with pytest.raises(DataError, match="which is no file"):
            MappedDataset(folder)

    def test_a_file_cut_short(self, folder):
        path = folder / "train.npy"
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(DataError, match="copy the whole folder again"):
            MappedDataset(folder)

    def test_a_missing_file(self, folder):
        (folder / "val.npy").unlink()
        with pytest.raises(DataError, match="is missing"):
            MappedDataset(folder)

    def replace(self, folder, array, name="train.npy"):
        np.save(folder / name, array, allow_pickle=True)
        files = read_manifest(folder)["files"]
        files[name]["bytes"] = (folder / name).stat().st_size
        self.change(folder, files=files)

    def test_pickled_objects_are_not_executed(self, folder):
        class Bomb:
            def __reduce__(self):
                return pytest.fail, ("a pickle was executed",)

        self.replace(folder, np.array([[Bomb()], [None]], dtype=object))
        with pytest.raises(DataError, match=r"cannot be read as an \.npy file"):
            MappedDataset(folder)
        (folder / "train.npy").write_bytes(pickle.dumps([1]))
        files = read_manifest(folder)["files"]
        files["train.npy"]["bytes"] = (folder / "train.npy").stat().st_size
        self.change(folder, files=files)
        with pytest.raises(DataError, match=r"cannot be read as an \.npy file"):
            MappedDataset(folder)

    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((2, 3), np.int32),
            np.zeros((2, 3)),
            np.zeros((3, 2), np.int64),
            np.zeros(6, np.int64),
            np.asfortranarray(np.zeros((2, 3), np.int64)),
        ],
    )
    def test_another_type_or_shape(self, folder, array):
        self.replace(folder, array)
        with pytest.raises(DataError, match="expected"):
            MappedDataset(folder)

    def test_indices_out_of_range_are_found_before_use(self, folder):
        self.replace(folder, np.array([[0, 0], [1, 10**12]]))
        with pytest.raises(DataError, match="out of range"):
            LD4MRec.from_data(MappedDataset(folder)[0])

    def test_checksums(self, folder):
        path = folder / "train.npy"
        content = bytearray(path.read_bytes())
        content[-8] ^= 1
        path.write_bytes(content)
        MappedDataset(folder)
        with pytest.raises(DataError, match="SHA-256"):
            MappedDataset(folder, check=True)

    def test_a_folder_that_is_not_empty_is_left_alone(self, folder):
        with pytest.raises(DataError, match="is not empty"):
            to_mapped(random_data(40, 30), folder)
        MappedDataset(folder, check=True)
