"""Cards against published files, and loading by name from small files of the same form."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from graphdiff.datasets import MMRecLayout, load
from graphdiff.errors import DataError
from graphdiff.schema import INTERACTS, modalities

CARDS = Path(__file__).parents[3] / "datasets"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["lfm2k", "citeulike-a"])
class TestPublishedFiles:
    @pytest.fixture
    def folder(self, real_data_root, name):
        folder = real_data_root / name
        if not folder.exists():
            pytest.skip(f"{folder} is not there")
        return folder

    @pytest.fixture
    def card(self, name):
        return yaml.safe_load((CARDS / name / "card.yaml").read_text())

    def test_the_statistics_are_those_of_the_card(self, folder, name, card):
        data = load(name, folder)[0]
        edges, item = data[INTERACTS], data["item"]
        degrees = [
            edges.edge_index[row].bincount(minlength=data[node].num_nodes)
            for row, node in enumerate(("user", "item"))
        ]
        expected = card["statistics"]
        assert expected.pop("items_without_text", 0) == int((~item.has_text).sum())
        assert expected == {
            "users": data["user"].num_nodes,
            "items": item.num_nodes,
            "training": edges.edge_index.size(1),
            "validation": edges.val_edge_label_index.size(1),
            "test": edges.test_edge_label_index.size(1),
            "users_without_training_interactions": int((degrees[0] == 0).sum()),
            "items_without_training_interactions": int((degrees[1] == 0).sum()),
            "channels": {m: item[f"x_{m}"].size(1) for m in modalities(data)},
        }

    def test_the_checksums_are_those_of_the_files(self, folder, card):
        assert card["files"]
        for file, entry in card["files"].items():
            digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
            assert entry["checksum"] == f"sha256:{digest}"


class TestLastFm:
    @pytest.fixture
    def folder(self, tmp_path):
        lines = "0\t0\t1\t0\n0\t1\t1\t1\n1\t2\t1\t0\n1\t0\t1\t2\n"
        (tmp_path / "lfm2k.inter").write_text("userID\titemID\trating\tx_label\n" + lines)
        for width, name in enumerate(("all-MiniLM-L6-v2", "whisper", "vggish"), start=2):
            np.save(tmp_path / f"{name}.npy", np.full((3, width), width, dtype=np.float32))
        np.save(tmp_path / "mine.npy", np.ones((3, 7)))
        return tmp_path

    def test_the_name_stands_for_the_layout_and_its_features(self, folder):
        dataset = load("lfm2k", folder)
        assert type(dataset) is MMRecLayout
        item = dataset[0]["item"]
        channels = {name: item[f"x_{name}"].size(1) for name in modalities(dataset[0])}
        assert channels == {"audio": 3, "text": 2, "vggish": 4}

    def test_features_of_ones_own_replace_them(self, folder):
        data = load("lfm2k", folder, features={"mine": "mine.npy"})[0]
        assert modalities(data) == ["mine"]

    def test_a_feature_file_that_is_missing_is_named(self, folder):
        (folder / "whisper.npy").unlink()
        with pytest.raises(DataError, match=r"lacks whisper\.npy"):
            load("lfm2k", folder)
