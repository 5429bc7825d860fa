import numpy as np
import pytest

from graphdiff.datasets import MMRecLayout, load
from graphdiff.errors import DataError
from graphdiff.schema import INTERACTS, modalities

HEADER = "userID\titemID\trating\ttimestamp\tx_label\n"
ROWS = [(0, 0, 0), (0, 2, 0), (1, 1, 0), (0, 1, 1), (1, 3, 2), (2, 3, 0), (2, 0, 2)]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "toys"
    root.mkdir()
    write(root, ROWS)
    rng = np.random.default_rng(0)
    np.save(root / "image_feat.npy", rng.normal(size=(5, 3)))
    np.save(root / "text_feat.npy", rng.normal(size=(5, 2)).astype(np.float16))
    np.save(root / "extra.npy", rng.normal(size=(5, 4)).astype(np.float32))
    return root


def write(root, rows):
    lines = "".join(f"{user}\t{item}\t5.0\t1\t{label}\n" for user, item, label in rows)
    (root / "toys.inter").write_text(HEADER + lines)


def pairs(data, attribute):
    return sorted(zip(*data[INTERACTS][attribute].tolist(), strict=True))


def test_layout_is_read(folder):
    data = load("mmrec", folder)[0]
    assert (data["user"].num_nodes, data["item"].num_nodes) == (3, 5)
    assert pairs(data, "edge_index") == [(0, 0), (0, 2), (1, 1), (2, 3)]
    assert pairs(data, "val_edge_label_index") == [(0, 1)]
    assert pairs(data, "test_edge_label_index") == [(1, 3), (2, 0)]
    assert modalities(data) == ["image", "text"]
    assert data["item"].x_image.shape == (5, 3)
    assert {path.name for path in folder.iterdir()} == {
        "toys.inter", "image_feat.npy", "text_feat.npy", "extra.npy",
    }  # fmt: skip


def timed(root, times, header=HEADER):
    rows = zip(ROWS, times, strict=True)
    lines = "".join(f"{u}\t{i}\t5.0\t{when}\t{label}\n" for (u, i, label), when in rows)
    (root / "toys.inter").write_text(header + lines)
    store = load("mmrec", root)[0][INTERACTS]
    pairs = map(tuple, store.edge_index.t().tolist())
    return dict(zip(pairs, store.time.tolist(), strict=True)) if "time" in store else None


@pytest.mark.parametrize("header", [HEADER, HEADER.replace("timestamp", "Timestamp:float")])
def test_times_of_training_pairs(folder, header):
    found = timed(folder, [70, 60, 50, "", "?", 20, 10], header)
    assert found == {(0, 0): 70, (0, 2): 60, (1, 1): 50, (2, 3): 20}


def test_times_that_cannot_be_read_are_left_out(folder):
    with pytest.warns(UserWarning, match=r"toys\.inter: the column timestamp is ignored"):
        assert timed(folder, [70, "", 50, 40, 30, 20, 10]) is None
    assert timed(folder, [1] * 7, HEADER.replace("timestamp", "other")) is None


def test_features_by_name(folder):
    data = load("mmrec", folder, features={"audio": "extra.npy"})[0]
    assert modalities(data) == ["audio"]
    assert data["item"].x_audio.shape == (5, 4)


def test_repeated_pairs_count_where_they_stand_first(folder):
    write(folder, [*ROWS, (0, 0, 0), (0, 2, 2)])
    with pytest.warns(UserWarning, match="2 repeated pairs left out"):
        data = MMRecLayout(folder)[0]
    assert pairs(data, "edge_index") == [(0, 0), (0, 2), (1, 1), (2, 3)]
    assert (0, 2) not in pairs(data, "test_edge_label_index")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user\titem\n0\t1\n", "expected user, item and x_label, tab-separated"),
        (HEADER + "0\tx\t1\t1\t0\n", r"line 2: .*expected integers"),
        (HEADER + "0\t1\n", "line 2"),
        (HEADER, "no interactions"),
        (HEADER + "0\t1\t1\t1\t7\n", "x_label other than"),
        (HEADER + "-1\t1\t1\t1\t0\n", "ids below 0"),
    ],
)
def test_broken_files_are_refused(folder, content, message):
    (folder / "toys.inter").write_text(content)
    with pytest.raises(DataError, match=message):
        MMRecLayout(folder)


def test_folders_that_are_not_in_the_layout(folder, tmp_path):
    with pytest.raises(DataError, match=r"holds 0 \.inter files"):
        MMRecLayout(tmp_path)
    (folder / "more.inter").write_text(HEADER)
    with pytest.raises(DataError, match=r"2 \.inter files: more\.inter, toys\.inter"):
        MMRecLayout(folder)


def test_features_that_do_not_fit(folder):
    np.save(folder / "image_feat.npy", np.zeros((4, 3)))
    with pytest.raises(DataError, match="4 rows but the graph has 5 items"):
        MMRecLayout(folder)
    with pytest.raises(DataError, match=r"no\.npy"):
        MMRecLayout(folder, features={"image": "no.npy"})
