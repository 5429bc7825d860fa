"""TikTok's files in their published form, complete, incomplete and damaged."""

import hashlib
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from graphdiff.datasets import TikTok
from graphdiff.errors import DataError
from graphdiff.schema import INTERACTS, modalities, validate

PAIRS = {
    "trnMat.pkl": [(0, 0), (0, 2), (1, 1), (2, 3)],
    "valMat.pkl": [(1, 0)],
    "tstMat.pkl": [(0, 1), (2, 4)],
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))


def matrix(pairs, shape=(3, 5), value=1.0):
    rows, columns = zip(*pairs, strict=True)
    return sp.coo_matrix((np.full(len(pairs), value), (rows, columns)), shape=shape)


def write(folder, **features):
    folder.mkdir(parents=True, exist_ok=True)
    for name, pairs in PAIRS.items():
        (folder / name).write_bytes(pickle.dumps(matrix(pairs)))
    for name, table in features.items():
        np.save(folder / f"{name}_feat.npy", table)
    return folder


def as_pairs(index):
    return sorted(map(tuple, index.t().tolist()))


@pytest.mark.parametrize("place", [".", "raw"])
def test_it_reads_matrices_and_features(tmp_path, place):
    rng = np.random.default_rng(0)
    tables = {name: rng.normal(size=(5, 3)).astype("f2") for name in ("audio", "image", "text")}
    write(tmp_path / "tiktok" / place, **tables)
    data = TikTok(tmp_path / "tiktok")[0]
    validate(data)
    assert (data["user"].num_nodes, data["item"].num_nodes) == (3, 5)
    edges = data[INTERACTS]
    assert as_pairs(edges.edge_index) == PAIRS["trnMat.pkl"]
    assert as_pairs(edges.val_edge_label_index) == PAIRS["valMat.pkl"]
    assert as_pairs(edges.test_edge_label_index) == PAIRS["tstMat.pkl"]
    assert modalities(data) == ["audio", "image", "text"]
    for name, table in tables.items():
        np.testing.assert_array_equal(data["item"][f"x_{name}"].numpy(), table.astype("f4"))


def test_modalities_are_those_of_the_folder_and_missing_ones_cause_a_warning_each_time(tmp_path):
    folder = write(tmp_path / "t", text=np.ones((5, 2)), smell=np.ones((5, 1)))
    for _ in range(2):
        with pytest.warns(
            UserWarning, match="t has no features of image, audio; continuing with sm"
        ):
            dataset = TikTok(folder)
        assert modalities(dataset[0]) == ["smell", "text"]


@pytest.mark.filterwarnings("ignore:.*has no features")
def test_entries_that_are_zero_are_no_interactions(tmp_path):
    folder = write(tmp_path / "t")
    m = matrix(PAIRS["trnMat.pkl"], value=2.5)
    m.data[1] = 0
    (folder / "trnMat.pkl").write_bytes(pickle.dumps(m.tocsr()))
    data = TikTok(folder)[0]
    assert as_pairs(data[INTERACTS].edge_index) == [(0, 0), (1, 1), (2, 3)]


@pytest.mark.filterwarnings("ignore:.*has no features")
class TestFaults:
    def refused(self, folder, message):
        with pytest.raises(DataError, match=message):
            TikTok(folder)

    def test_matrices_of_different_sizes(self, tmp_path):
        folder = write(tmp_path / "t")
        (folder / "valMat.pkl").write_bytes(pickle.dumps(matrix([(1, 0)], shape=(3, 6))))
        self.refused(folder, r"valMat\.pkl is 3 × 6 but trnMat\.pkl is 3 × 5")

    def test_features_of_other_items(self, tmp_path):
        folder = write(tmp_path / "t", image=np.ones((4, 2)))
        self.refused(folder, "x_image has 4 rows but the graph has 5 items")

    def test_a_held_out_pair_in_training(self, tmp_path):
        folder = write(tmp_path / "t")
        (folder / "tstMat.pkl").write_bytes(pickle.dumps(matrix([(0, 2)])))
        self.refused(folder, "1 test pair is also found among the training pairs: user 0 item 2")

    def test_a_pickle_of_something_else(self, tmp_path):
        folder = write(tmp_path / "t")
        (folder / "trnMat.pkl").write_bytes(pickle.dumps([1, 2]))
        self.refused(folder, r"trnMat\.pkl is not the pickle of a scipy sparse matrix")

    def test_features_of_objects(self, tmp_path):
        folder = write(tmp_path / "t")
        np.save(folder / "image_feat.npy", np.array([[{}]]), allow_pickle=True)
        self.refused(folder, r"image_feat\.npy cannot be read")

    def test_a_folder_that_lacks_a_matrix(self, tmp_path):
        folder = write(tmp_path / "t")
        (folder / "valMat.pkl").unlink()
        self.refused(folder, r"t lacks valMat\.pkl; TikTok needs trnMat\.pkl, valMat\.pkl, tstMat")
        assert not (folder / "raw").exists()


class TestDownload:
    @pytest.fixture
    def served(self, tmp_path, monkeypatch):
        """The dataset at an address that can be reached, with checksums to match."""
        folder = write(
            tmp_path / "server", **{n: np.ones((5, 2)) for n in ("image", "audio", "text")}
        )
        checksums = {
            name: "sha256:" + hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in TikTok.checksums
        }
        monkeypatch.setattr(TikTok, "url", folder.as_uri())
        monkeypatch.setattr(TikTok, "checksums", checksums)
        return folder

    def test_missing_files_are_fetched_once(self, tmp_path, served):
        root = tmp_path / "root"
        assert modalities(TikTok(root)[0]) == ["audio", "image", "text"]
        for path in served.iterdir():
            assert (root / "raw" / path.name).read_bytes() == path.read_bytes()
            path.unlink()
        assert TikTok(root)[0]["item"].num_nodes == 5

    def test_a_broken_download_goes_on_where_it_was(self, tmp_path, served, monkeypatch):
        monkeypatch.setattr("graphdiff.datasets.io.download.time.sleep", lambda seconds: None)
        last = served / "trnMat.pkl"
        content = last.read_bytes()
        last.unlink()
        root = tmp_path / "root"
        with pytest.raises(DataError, match=r"TikTok cannot be downloaded .*trnMat\.pkl"):
            TikTok(root)
        (served / "image_feat.npy").unlink()
        last.write_bytes(content)
        assert modalities(TikTok(root)[0]) == ["audio", "image", "text"]

    def test_a_different_file_is_refused(self, tmp_path, served):
        (served / "text_feat.npy").write_bytes(b"other")
        with pytest.raises(DataError, match=r"text_feat\.npy has changed: .* into .*root$"):
            TikTok(tmp_path / "root")

    def test_without_a_network_the_files_and_the_folder_are_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr("graphdiff.datasets.io.download.time.sleep", lambda seconds: None)
        monkeypatch.setattr(TikTok, "url", (tmp_path / "nowhere").as_uri())
        with pytest.raises(DataError) as caught:
            TikTok(tmp_path / "root")
        for wanted in (*TikTok.checksums, str(tmp_path / "root")):
            assert wanted in str(caught.value)
        assert not (tmp_path / "root").exists()


@pytest.mark.filterwarnings("ignore:.*has no features")
class TestReal:
    @pytest.fixture
    def folder(self, real_data_root):
        folder = real_data_root / "tiktok"
        if not folder.exists():
            pytest.skip(f"{folder} is not there")
        return folder

    def test_the_statistics_are_those_of_the_documentation(self, folder):
        before = sorted(path.name for path in folder.iterdir())
        data = TikTok(folder)[0]
        validate(data)
        edges = data[INTERACTS]
        assert (data["user"].num_nodes, data["item"].num_nodes) == (9308, 6710)
        assert edges.edge_index.size(1) == 59541
        assert edges.val_edge_label_index.size(1) == 3051
        assert edges.test_edge_label_index.size(1) == 6130
        assert data["item"].x_image.shape == data["item"].x_audio.shape == (6710, 128)
        degree = edges.edge_index[1].bincount(minlength=6710)
        assert (degree == 0).sum() == 465
        assert (degree[edges.val_edge_label_index[1]] == 0).sum() == 223
        assert (edges.edge_index[0].bincount(minlength=9308) == 0).sum() == 10
        assert not set(edges.val_edge_label_index[0].tolist()) & set(
            edges.test_edge_label_index[0].tolist()
        )
        assert sorted(path.name for path in folder.iterdir()) == before

    def test_the_checksums_are_those_of_the_files(self, folder):
        for name, checksum in TikTok.checksums.items():
            if (folder / name).exists() and checksum.startswith("sha256:"):
                digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
                assert checksum == f"sha256:{digest}"
