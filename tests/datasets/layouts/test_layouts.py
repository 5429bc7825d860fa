"""The same data in every layout: the same graph, described and trained on."""

import warnings

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from graphdiff.cli.main import app
from graphdiff.datasets import load
from graphdiff.describe import describe_dataset
from graphdiff.errors import DataError
from graphdiff.schema import INTERACTS, SPLITS, fingerprint, modalities, raw_ids, validate
from tests.datasets import samples


@pytest.fixture(params=samples.LAYOUTS)
def layout(request, tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    write, name = samples.LAYOUTS[request.param]
    folder = tmp_path / "toys"
    folder.mkdir()
    write(folder)
    return name, folder


def test_it_is_read_to_the_same_graph(layout):
    name, folder = layout
    before = sorted(path.name for path in folder.iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load(name, folder)[0]
    validate(data)
    expected = samples.expected()
    assert modalities(data) == ["image", "text"]
    for node in ("user", "item"):
        assert data[node].num_nodes == expected[node].num_nodes
        assert raw_ids(data, node, range(20)) == list(range(20))
    for attribute in SPLITS.values():
        assert samples.as_pairs(data, attribute) == samples.as_pairs(expected, attribute)
    for modality in modalities(data):
        x = data["item"][f"x_{modality}"]
        torch.testing.assert_close(x, expected["item"][f"x_{modality}"], rtol=0, atol=0)
        assert data["item"][f"has_{modality}"].all()
    # The stored graph equals the one that was read, and the folder is unchanged.
    assert fingerprint(load(name, folder)[0]) == fingerprint(data)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_it_is_described(layout):
    _, found = describe_dataset(layout[0], layout[1])
    assert found["pairs"] == {"training": 120, "validation": 30, "test": 30}
    assert found["modalities"]["image"]["channels"] == 5
    assert found["notes"] == []


def test_it_is_trained_on(layout, tmp_path):
    name, folder = layout
    arguments = ["train", "--dataset", name, "--root", str(folder), "--model", "lightgcn"]
    arguments += ["--epochs", "1", "--set", "hidden_channels=4", "--no-progress"]
    arguments += ["--accelerator", "cpu", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "results.json").exists()


def test_it_is_converted_and_read_back(layout, tmp_path):
    name, folder = layout
    out = tmp_path / "out"
    arguments = ["convert", "--from", name, "--to", "parquet", str(folder), str(out)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "30 users, 20 items, 120 + 30 + 30 pairs, image, text" in result.output.replace(
        "\n", " "
    )
    data, back = load(name, folder)[0], load("parquet", out)[0]
    assert fingerprint(back) == fingerprint(data)
    for modality in modalities(data):
        np.testing.assert_array_equal(
            back["item"][f"x_{modality}"].numpy(), data["item"][f"x_{modality}"].numpy()
        )


@pytest.mark.parametrize(
    "name", sorted({name for _, name in samples.LAYOUTS.values()} | {"mapped"})
)
def test_a_folder_that_does_not_exist_is_named(tmp_path, name):
    for root, words in (("nosuch", "does not exist"), ("file", "is a file")):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match=f"the folder .*{root} {words}; give root"):
            load(name, tmp_path / root)


def test_a_folder_that_is_only_written_to_need_not_exist(tmp_path):
    load("synthetic", tmp_path / "new", num_users=20, num_items=30)
    assert (tmp_path / "new" / "processed" / "graph.safetensors").exists()


@pytest.mark.parametrize("ordered", [False, True])
def test_lists_of_pairs_have_times_if_they_are_ordered(tmp_path, monkeypatch, ordered):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    samples.pairs(tmp_path)
    for chosen in (not ordered, ordered):  # The stored graph of the other is not used.
        store = load("pairs", tmp_path, ordered=chosen)[0][INTERACTS]
    if ordered:
        written = np.load(tmp_path / "train_list.npy").T
        assert store.edge_index[:, store.time.argsort()].tolist() == written.tolist()
    else:
        assert "time" not in store


@pytest.mark.parametrize("whole", [False, True])
def test_files_of_recbole_have_times(tmp_path, monkeypatch, whole):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    rows = list(enumerate(samples.rows()))
    header = "user_id:token\titem_id:token\ttimestamp:float\n"
    for split in ("",) if whole else ("train", "val", "test"):
        lines = "".join(f"{u}\t{i}\t{n / 2}\n" for n, (u, i, s) in rows if s == split or whole)
        name = "toys" + {"": "", "val": ".valid"}.get(split, f".{split}") + ".inter"
        (tmp_path / name).write_text(header + lines)
    store = load("recbole", tmp_path)[0][INTERACTS]
    when = {(u, i): n / 2 for n, (u, i, _) in rows}
    assert store.time.tolist() == [when[pair] for pair in map(tuple, store.edge_index.t().tolist())]
