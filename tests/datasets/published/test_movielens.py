"""DiffRec's splits of MovieLens-1M in their published form."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from graphdiff.datasets import MovieLens1M, load
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, modalities, validate

CARDS = Path(__file__).parents[3] / "datasets"
PAIRS = {
    "clean": {"train": [(0, 0), (0, 2), (1, 1), (2, 0)], "valid": [(1, 3)], "test": [(2, 1)]},
    # The largest user stands in validation alone, the largest item in test alone.
    "noisy": {"train": [(0, 1), (1, 0)], "valid": [(0, 2), (3, 2)], "test": [(1, 4)]},
}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))


def write(folder):
    for variant, splits in PAIRS.items():
        (folder / variant).mkdir(parents=True)
        for split, pairs in splits.items():
            np.save(folder / variant / f"{split}_list.npy", np.array(pairs))
    return folder


def as_pairs(index):
    return sorted(map(tuple, index.t().tolist()))


@pytest.mark.parametrize("place", [".", "raw"])
@pytest.mark.parametrize(("variant", "sizes"), [("clean", (3, 4)), ("noisy", (4, 5))])
def test_each_variant_is_read_under_its_name(tmp_path, place, variant, sizes):
    write(tmp_path / "ml" / place)
    data = load(f"ML-1M-{variant}", tmp_path / "ml")[0]
    validate(data)
    assert (data["user"].num_nodes, data["item"].num_nodes) == sizes
    edges, wanted = data[INTERACTS], PAIRS[variant]
    assert as_pairs(edges.edge_index) == wanted["train"]
    assert as_pairs(edges.val_edge_label_index) == wanted["valid"]
    assert as_pairs(edges.test_edge_label_index) == wanted["test"]
    assert modalities(data) == []
    assert edges.time.tolist() == list(range(len(wanted["train"])))


def test_the_order_of_the_file_is_that_of_time(tmp_path):
    folder = write(tmp_path / "ml")
    np.save(folder / "clean" / "train_list.npy", np.array([(1, 1), (0, 2), (2, 0), (0, 0)]))
    edges = MovieLens1M(folder)[0][INTERACTS]
    when = dict(zip(map(tuple, edges.edge_index.t().tolist()), edges.time.tolist(), strict=True))
    assert when[0, 2] < when[0, 0]


def test_the_variants_are_stored_separately(tmp_path, monkeypatch):
    folder = write(tmp_path / "ml")
    for variant in PAIRS:
        MovieLens1M(folder, variant)
    monkeypatch.setattr(MovieLens1M, "read", lambda self: pytest.fail("it was read again"))
    assert MovieLens1M(folder)[0]["item"].num_nodes == 4
    assert MovieLens1M(folder, "noisy")[0]["item"].num_nodes == 5
    assert sorted(path.name for path in folder.iterdir()) == ["clean", "noisy"]


def test_one_variant_alone_will_do(tmp_path):
    folder = write(tmp_path / "ml")
    for path in (folder / "noisy").iterdir():
        path.unlink()
    assert MovieLens1M(folder, "clean")[0]["user"].num_nodes == 3
    with pytest.raises(DataError, match=r"lacks noisy/train_list\.npy, .*test_list\.npy"):
        MovieLens1M(folder, "noisy")


def test_other_variants_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="variant='dirty': expected 'clean' or 'noisy'"):
        MovieLens1M(tmp_path, "dirty")
    with pytest.raises(ConfigError, match="takes no argument 'variant'"):
        load("ml-1m-clean", tmp_path, variant="noisy")


def test_a_pair_in_two_splits_is_refused(tmp_path):
    folder = write(tmp_path / "ml")
    np.save(folder / "clean" / "test_list.npy", np.array([(0, 2)]))
    with pytest.raises(DataError, match="1 test pair is also found among the training pairs"):
        MovieLens1M(folder)


def test_indices_below_zero_are_refused(tmp_path):
    folder = write(tmp_path / "ml")
    np.save(folder / "clean" / "valid_list.npy", np.array([(-1, 2)]))
    with pytest.raises(DataError, match="1 validation pair is out of range"):
        MovieLens1M(folder)


@pytest.mark.parametrize("variant", list(PAIRS))
class TestReal:
    @pytest.fixture
    def folder(self, real_data_root):
        folder = real_data_root / "ml-1m"
        if not folder.exists():
            pytest.skip(f"{folder} is not there")
        return folder

    @pytest.fixture
    def card(self, variant):
        return yaml.safe_load((CARDS / f"ml-1m-{variant}" / "card.yaml").read_text())

    def test_the_statistics_are_those_of_the_card(self, folder, variant, card):
        data = MovieLens1M(folder, variant)[0]
        edges = data[INTERACTS]
        degrees = [
            edges.edge_index[row].bincount(minlength=data[node].num_nodes)
            for row, node in enumerate(("user", "item"))
        ]
        assert card["statistics"] == {
            "users": data["user"].num_nodes,
            "items": data["item"].num_nodes,
            "training": edges.edge_index.size(1),
            "validation": edges.val_edge_label_index.size(1),
            "test": edges.test_edge_label_index.size(1),
            "users_without_training_interactions": int((degrees[0] == 0).sum()),
            "items_without_training_interactions": int((degrees[1] == 0).sum()),
        }
        for held_out in (edges.val_edge_label_index, edges.test_edge_label_index):
            assert held_out[0].unique().numel() == data["user"].num_nodes

    def test_the_checksums_are_those_of_the_files(self, folder, variant, card):
        assert len(card["files"]) == 3
        for name, entry in card["files"].items():
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            assert entry["checksum"] == f"sha256:{digest}"
