"""Reading, storing and re-reading of datasets."""

import os
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch_geometric.data import InMemoryDataset

from graphdiff.datasets import RecDataset
from graphdiff.datasets.io.storage import load_graph, read_metadata
from graphdiff.errors import DataError
from graphdiff.schema import INTERACTS, build_data
from graphdiff.transforms import ModalityGraph


class Toy(RecDataset):
    """A dataset of one line of items of a single user, with optional features."""

    reads = 0

    @property
    def raw_file_names(self):
        return ["items.txt", "size.txt"]

    @property
    def optional_file_names(self):
        return ["features.txt"]

    def read(self):
        type(self).reads += 1
        folder = Path(self.raw_dir)
        items = [int(i) for i in (folder / "items.txt").read_text().split()]
        size = int((folder / "size.txt").read_text())
        features = {}
        if (folder / "features.txt").exists():
            values = [float(x) for x in (folder / "features.txt").read_text().split()]
            features["number"] = torch.tensor(values).reshape(size, -1)
        return build_data(1, size, [[0] * len(items), items], features=features)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    for cls in (Toy, Noted):
        monkeypatch.setattr(cls, "reads", 0)
    return tmp_path / "cache"


@pytest.fixture
def flat(tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    (folder / "items.txt").write_text("0 2")
    (folder / "size.txt").write_text("3")
    return folder


def touch_later(path):
    """Change the modification time of a file."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def listing(folder):
    return sorted(
        (p.relative_to(folder).as_posix(), p.stat().st_mtime_ns)
        for p in [folder, *folder.rglob("*")]
    )


def test_it_is_an_in_memory_dataset_of_one_graph(flat):
    dataset = Toy(flat)
    assert isinstance(dataset, InMemoryDataset)
    assert len(dataset) == 1
    assert str(dataset) == "Toy()"
    assert dataset[0][INTERACTS].edge_index.tolist() == [[0, 0], [0, 2]]
    assert [data["item"].num_nodes for data in dataset] == [3]


def test_changing_a_returned_graph_does_not_change_the_dataset(flat):
    dataset = Toy(flat)
    dataset[0][INTERACTS].edge_index = torch.empty(2, 0)
    assert dataset[0][INTERACTS].edge_index.shape == (2, 2)


def test_a_folder_of_raw_files_is_unchanged(flat, cache):
    before = listing(flat)
    Toy(flat, pre_transform=ModalityGraph())
    assert listing(flat) == before
    assert [path.name for path in cache.rglob("*.*")] == ["graph.safetensors"]


def test_elsewhere_raw_and_processed_lie_under_root(flat, tmp_path, cache):
    shutil.copytree(flat, tmp_path / "root" / "raw")
    assert Toy(tmp_path / "root")[0]["item"].num_nodes == 3
    assert [p.name for p in (tmp_path / "root" / "processed").iterdir()] == ["graph.safetensors"]
    assert not cache.exists()


def test_it_is_read_once(flat):
    first, second = Toy(flat)[0], Toy(str(flat))[0]
    assert Toy.reads == 1
    assert torch.equal(first[INTERACTS].edge_index, second[INTERACTS].edge_index)


def test_force_reload_reads_the_files_again(flat):
    Toy(flat)
    Toy(flat, force_reload=True)
    assert Toy.reads == 2


@pytest.mark.parametrize("change", ["content", "time", "new file", "file gone"])
def test_changed_files_are_read_again(flat, change):
    if change == "file gone":
        (flat / "features.txt").write_text("1 2 3")
    Toy(flat)
    if change == "content":
        (flat / "items.txt").write_text("0 1 2")
    elif change == "time":
        touch_later(flat / "size.txt")
    elif change == "new file":
        (flat / "features.txt").write_text("1 2 3")
    else:
        (flat / "features.txt").unlink()
    data = Toy(flat)[0]
    assert Toy.reads == 2
    assert data[INTERACTS].edge_index.size(1) == (3 if change == "content" else 2)
    assert ("x_number" in data["item"]) == (change == "new file")


def test_pre_transform_is_stored_and_its_change_noticed(flat):
    (flat / "features.txt").write_text("1 2 3")
    similar = ("item", "similar_number", "item")
    sizes = [
        Toy(flat, pre_transform=ModalityGraph(k=k))[0][similar].edge_index.size(1)
        for k in (1, 1, 2)
    ]
    assert sizes == [3, 3, 6]
    assert Toy.reads == 2
    assert similar not in Toy(flat)[0].edge_types


def test_transform_applies_at_access_and_is_not_stored(flat):
    (flat / "features.txt").write_text("1 2 3")
    dataset = Toy(flat, transform=ModalityGraph(k=1))
    assert ("item", "similar_number", "item") in dataset[0].edge_types
    assert ("item", "similar_number", "item") not in Toy(flat)[0].edge_types


def test_a_damaged_file_in_the_cache_is_rebuilt(flat, cache):
    Toy(flat)
    (kept,) = cache.rglob("*.safetensors")
    whole = kept.read_bytes()
    for damaged in (whole[:-8], whole[:10], b""):
        kept.write_bytes(damaged)
        assert Toy(flat)[0]["item"].num_nodes == 3
        assert load_graph(kept)["item"].num_nodes == 3
    assert Toy.reads == 4


def test_a_cache_that_cannot_be_written_is_a_warning(flat, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="cannot be written .* set GRAPHDIFF_CACHE"):
        assert Toy(flat)[0]["item"].num_nodes == 3


def test_no_pickle_is_written_or_read(flat, cache, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pickle is written or read")

    for name in ("load", "save"):
        monkeypatch.setattr(torch, name, refuse)
    Toy(flat, pre_transform=ModalityGraph())
    (kept,) = cache.rglob("*.safetensors")
    (kept.parent / "pre_transform.pt").write_bytes(b"not read")
    Toy(flat, pre_transform=ModalityGraph())
    assert Toy.reads == 1


def test_missing_files_are_named_and_nothing_is_made(tmp_path, flat):
    (flat / "size.txt").unlink()
    with pytest.raises(DataError, match=r"flat lacks size\.txt; Toy needs items\.txt, size\.txt"):
        Toy(flat)
    with pytest.raises(DataError, match=r"the folder .*nowhere does not exist; give root"):
        Toy(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"the folder .*items\.txt is a file; give root"):
        Toy(flat / "items.txt")
    assert not (tmp_path / "nowhere").exists()


def test_root_is_needed():
    with pytest.raises(DataError, match=r"Toy is read from files; give root, .*items\.txt"):
        Toy()


def test_data_that_does_not_fit_the_schema_is_refused_and_not_stored(flat, cache):
    (flat / "items.txt").write_text("0 0")
    with pytest.raises(DataError, match="given more than once"):
        Toy(flat)
    assert not cache.exists()


class Noted(Toy):
    """The same, with a warning of its reader, or of something else."""

    category = UserWarning

    def read(self):
        for _ in range(2):
            warnings.warn("one line was left out", self.category, stacklevel=1)
        return super().read()


def shown(folder):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        Noted(folder)
    return [(str(one.message), one.category) for one in caught]


def test_warnings_of_the_reader_are_stored_and_shown_again(flat):
    expected = [("one line was left out", UserWarning)]
    assert shown(flat) == shown(flat) == shown(flat) == expected
    assert Noted.reads == 1


def test_warnings_of_other_kinds_are_shown_once(flat, monkeypatch):
    monkeypatch.setattr(Noted, "category", FutureWarning)
    assert shown(flat) == [("one line was left out", FutureWarning)]
    assert shown(flat) == []


def test_warnings_that_are_errors_stop_the_reading_and_the_loading(flat, cache):
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="one line was left out"):
                Noted(flat)
        assert not cache.exists()
    with pytest.warns(UserWarning, match="one line"):
        Noted(flat)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="one line was left out"):
            Noted(flat)


@pytest.mark.parametrize("notes", [None, "", "[", "5", '{"a": 1}', "[1, null]"])
def test_a_processed_file_without_readable_notes_shows_none(flat, cache, notes):
    with pytest.warns(UserWarning, match="one line"):
        Noted(flat)
    (kept,) = cache.rglob("*.safetensors")
    tensors, metadata = load_file(kept), read_metadata(kept)
    assert metadata.pop("notes") == '["one line was left out"]'
    more = {} if notes is None else {"notes": notes}
    save_file(tensors, kept, metadata={**metadata, **more})
    assert shown(flat) == []
    assert Noted.reads == 1
