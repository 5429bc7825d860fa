"""Conversion to Parquet and back."""

import json
import shutil
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from graphdiff.datasets import InteractionLog, from_frame, load, to_mapped, to_parquet
from graphdiff.datasets.convert import convert
from graphdiff.errors import DataError
from graphdiff.schema import INTERACTS, build_data, fingerprint, validate
from tests.conftest import random_data
from tests.datasets import samples


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_cold_items_masks_and_indices_survive(tmp_path, multimodal_data):
    meta = to_parquet(multimodal_data, tmp_path / "out", "toys")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "features_image.parquet",
        "features_text.parquet",
        "interactions.parquet",
        "meta.json",
    ]
    back = load("parquet", tmp_path / "out")[0]
    assert fingerprint(back) == fingerprint(multimodal_data) == meta["fingerprint"]
    assert "raw_id" not in back["user"]
    assert not back["item"].has_image[3]
    assert pq.read_table(tmp_path / "out" / "features_image.parquet").num_rows == 8
    assert json.loads((tmp_path / "out" / "meta.json").read_text()) == meta


@pytest.mark.parametrize("ids", [["z", "y", "7"], [30, 10, 20]])
def test_raw_ids_survive_in_their_order(tmp_path, ids):
    table = {"user": ids[:2], "item": ids[1:], "split": ["train", "test"]}
    data = from_frame(pa.table(table), users=ids, items=ids)
    to_parquet(data, tmp_path / "out")
    back = load("parquet", tmp_path / "out")[0]
    assert fingerprint(back) == fingerprint(data)
    assert list(back["user"].raw_id) == ids


@pytest.mark.parametrize("dtype", [torch.long, torch.float32, torch.double])
@pytest.mark.parametrize("to", [to_parquet, to_mapped])
def test_times_of_training_pairs_survive(tmp_path, dtype, to):
    data = random_data()
    store = data[INTERACTS]
    order = torch.randperm(store.edge_index.size(1))
    store.edge_index = store.edge_index[:, order]
    store.time = torch.arange(len(order)).to(dtype) + 2
    to(data, tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = load("parquet" if to is to_parquet else "mapped", tmp_path / "out")[0]
    validate(back)
    found = [
        dict(zip(map(tuple, s.edge_index.t().tolist()), s.time.tolist(), strict=True))
        for s in (back[INTERACTS], store)
    ]
    assert found[0] == found[1]
    assert fingerprint(back) == fingerprint(data)


def test_held_out_rows_need_no_times_only_where_the_split_is_a_column(tmp_path):
    data = random_data()
    data[INTERACTS].time = torch.arange(data[INTERACTS].edge_index.size(1))
    to_parquet(data, tmp_path / "out")
    with pytest.raises(DataError, match="rows have no timestamp"):
        load("parquet", tmp_path / "out", split="global_time")
    with pytest.warns(UserWarning, match="column of timestamps is ignored.*rows have no timestamp"):
        other = load("parquet", tmp_path / "out", split="ratio")[0]
    assert "time" not in other[INTERACTS]
    with pytest.raises(DataError, match="rows have no timestamp"):
        InteractionLog(tmp_path / "out").read_log()


def test_without_features_and_held_out_pairs(tmp_path):
    data = random_data()
    for name in ("val_edge_label_index", "test_edge_label_index"):
        data["user", "interacts", "item"][name] = data["user", "interacts", "item"][name][:, :0]
    to_parquet(data, tmp_path / "out")
    assert fingerprint(load("parquet", tmp_path / "out")[0]) == fingerprint(data)


def test_a_k_core_of_unnamed_items_gets_names(tmp_path):
    pairs = [[0, 1, 0, 1, 0], [0, 0, 2, 2, 1]]
    to_parquet(build_data(2, 4, pairs), tmp_path / "out")
    core = load("parquet", tmp_path / "out", k_core=2)[0]
    assert core["item"].raw_id.tolist() == [0, 2]
    assert "raw_id" not in core["user"]  # All are there, so that an index is still the id.


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path, plain_data, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(DataError, match="out is not empty"):
        to_parquet(plain_data, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]
    monkeypatch.setattr("graphdiff.datasets.convert.fingerprint", None)
    with pytest.raises(TypeError):
        to_parquet(plain_data, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", ["zip", "gztar"])
def test_an_archive_is_a_source_too(tmp_path, cache, form):
    (tmp_path / "files" / "toys").mkdir(parents=True)
    samples.mmrec(tmp_path / "files" / "toys")
    archive = shutil.make_archive(str(tmp_path / "toys"), form, tmp_path / "files")
    meta = convert(archive, tmp_path / "out", "mmrec")
    assert meta["training"] == 120
    assert fingerprint(load("parquet", tmp_path / "out")[0]) == fingerprint(samples.expected())
    with pytest.raises(DataError, match=r"there is no .*nowhere"):
        convert(tmp_path / "nowhere", tmp_path / "new", "mmrec")


def test_meta_that_makes_no_sense_is_refused(tmp_path, plain_data):
    to_parquet(plain_data, tmp_path / "out")
    path = tmp_path / "out" / "meta.json"
    for content, message in (
        ('{"unnamed": {"users": "many"}}', "there are 'many' users; expected a number"),
        ('{"unnamed": {"users": 1000000000000}}', "expected a number"),
        ("[", "cannot be read as JSON"),
        ('{"unnamed": {"users": 3, "items": 9}}', "9 users of the interactions are not in"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            load("parquet", tmp_path / "out")
