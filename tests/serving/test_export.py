"""Exported programs return what the model does."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from graphdiff import LD4MRec, fit
from graphdiff.errors import ConfigError
from graphdiff.evaluation.ranking import evaluate
from graphdiff.models import MODELS
from graphdiff.nn import DiffusionSchedule, Part
from graphdiff.serving import export as module
from graphdiff.serving.export import PackedTable, Program, export, rounded
from tests.conftest import make_model, random_data
from tests.graph.test_recency import timed_data
from tests.serving.client import local

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

#: Histories: with repeats, empty, of one item, of many.
LISTS = [[1, 5, 5, 2], [], [49], [0, 3, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47]]
BATCHES = [LISTS, LISTS[:1], [[]], [[], []], [[7]] * 9]


def make(features=None, seed=0, num_items=50, **settings):
    """An LD4MRec all of whose parts contribute to the scores, and its data."""
    data = random_data(30, num_items, features)
    model = make_model(MODELS["ld4mrec"], data, seed, **settings).eval()
    torch.nn.init.normal_(model.cnet.blocks[0].outer.weight)
    torch.nn.init.normal_(model.gate.weight)
    torch.nn.init.normal_(model.bias)
    if model.linear is not None:
        model.linear.start(model.graph, torch.Generator().manual_seed(seed))
        model.linear.weight.fill_(0.5)
    return model, data


@pytest.mark.parametrize("exponent", [0.5, 1.5])
def test_programs_weigh_the_latest_items_as_the_model_does(exponent, tmp_path):
    data = timed_data(num_users=30, num_items=50, features={"image": 6})
    model = make_model(MODELS["ld4mrec"], data, recency=exponent).eval()
    torch.nn.init.normal_(model.cnet.blocks[0].outer.weight)
    torch.nn.init.normal_(model.bias)
    export(model, tmp_path / "model.onnx", k=7)
    program = Program(model, k=7)
    backwards = [one[::-1] for one in LISTS]
    for lists in (*BATCHES, backwards, [[*LISTS[3], 3], [5, 1, 5]]):
        item, score = model.recommend(history_index=lists, k=7)
        same(program(*ragged(lists)), (item, score))
        same(run_onnx(tmp_path / "model.onnx", lists), (item, score))
    assert not torch.equal(program(*ragged(LISTS))[1], program(*ragged(backwards))[1])


def ragged(lists):
    items = torch.tensor([item for one in lists for item in one], dtype=torch.long)
    return items, torch.tensor([0, *map(len, lists)]).cumsum(0)[:-1]


def run_onnx(path, lists):
    items, offsets = ragged(lists)
    session = onnxruntime.InferenceSession(path)
    found = session.run(None, {"history_index": items.numpy(), "offsets": offsets.numpy()})
    return [torch.from_numpy(one) for one in found]


def same(found, expected):
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("features", [{}, {"image": 6, "text": 5}], ids=len)
def test_a_torch_program_returns_what_the_model_does(features, linear, tmp_path):
    model, _ = make(features, linear_path={"enabled": linear, "rank": 16})
    export(model, tmp_path / "model.pt2", "torch", k=10)
    about = {"graphdiff.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=about).module()
    for lists in BATCHES:
        same(program(*ragged(lists)), model.recommend(history_index=lists, k=10))
    assert json.loads(about["graphdiff.json"]) == {"k": 10, "num_items": 50, "tables": "float32"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model with two modalities and a linear path, and its ONNX program."""
    model, _ = make({"image": 6, "text": 5}, linear_path={"enabled": True, "rank": 16})
    model.catalogue.item_ids = [f"item {n}" for n in range(50)]
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export(model, path, k=10)
    return model, path


def test_an_onnx_program_returns_what_the_model_does(exported):
    model, path = exported
    for lists in BATCHES:
        same(run_onnx(path, lists), model.recommend(history_index=lists, k=10))
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    about = json.loads(metadata["graphdiff"])
    assert about.pop("item_ids")[3] == "item 3"
    assert about == {"k": 10, "num_items": 50, "tables": "float32"}
    # There is no second file with weights.
    assert [one.name for one in path.parent.iterdir()] == ["model.onnx"]


WITHOUT_TORCH = """
import sys
import numpy as np
import onnxruntime

path, out = sys.argv[1:]
session = onnxruntime.InferenceSession(path)
items = np.array([1, 5, 5, 2, 49], dtype=np.int64)
offsets = np.array([0, 4, 4], dtype=np.int64)
given = {"history_index": items, "offsets": offsets}
item, score = session.run(["item_index", "score"], given)
assert "torch" not in sys.modules and "graphdiff" not in sys.modules
np.savez(out, item=item, score=score)
"""


def test_an_onnx_program_needs_no_torch(exported, tmp_path):
    model, path = exported
    command = [sys.executable, "-c", WITHOUT_TORCH, path, tmp_path / "found.npz"]
    subprocess.run(command, check=True, cwd=tmp_path)
    with np.load(tmp_path / "found.npz") as found:
        answer = torch.from_numpy(found["item"]), torch.from_numpy(found["score"])
    same(answer, model.recommend(history_index=[[1, 5, 5, 2], [], [49]], k=10))


def test_weights_lie_beside_an_onnx_program_that_is_too_large(tmp_path, monkeypatch):
    model, _ = make(num_items=300)  # without modalities
    monkeypatch.setattr(module, "ONNX_LIMIT", 1000)
    path = tmp_path / "model.onnx"
    export(model, path, k=10)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    same(run_onnx(path, LISTS), model.recommend(history_index=LISTS, k=10))


def test_large_catalogues_are_scored_in_pieces(monkeypatch):
    model, _ = make({"image": 6})
    monkeypatch.setattr(module, "BLOCK", 16)
    program = Program(model, k=20)
    assert [len(piece.value) for piece in program.item] == [16, 16, 16, 2]
    expected = model.recommend(history_index=LISTS, k=20)
    same(program(*ragged(LISTS)), expected)
    same(module._traced(program).module()(*ragged(LISTS)), expected)


def test_lists_end_where_no_item_is_left():
    model, _ = make()
    item, score = Program(model, k=50)(*ragged([list(range(45)), [1]]))
    assert item[0].tolist()[5:] == [-1] * 45
    assert score[0, 5:].isneginf().all()
    assert sorted(item[0, :5].tolist()) == [45, 46, 47, 48, 49]
    assert item[1, 48] >= 0
    assert item[1, 49] == -1


def test_removed_items_are_not_recommended():
    model, _ = make({"image": 6})
    model.remove_items([4, 8])
    item, _ = Program(model, k=50)(*ragged(LISTS))
    assert not torch.isin(item, torch.tensor([4, 8])).any()


@pytest.mark.parametrize(("precision", "error"), [("bf16", 2**-8), ("int8", 0.5 / 127)])
def test_tables_in_few_bits_are_near(precision, error):
    value = torch.randn(40, 3, 16) * torch.rand(40, 1, 1) * 9
    value[7] = 0
    table = PackedTable(value, precision)
    index = torch.tensor([7, 3, 3, 39])
    limit = error * value.abs().amax(dim=-1, keepdim=True)[index]
    assert ((table.rows(index) - value[index]).abs() <= limit * 1.001).all()
    vectors = torch.randn(5, 3 * 16)
    expected = vectors @ table.rows(torch.arange(40)).flatten(1).t()
    torch.testing.assert_close(table.inner_product(vectors), expected, rtol=1e-4, atol=1e-4)
    assert table.value.dtype == {"bf16": torch.bfloat16, "int8": torch.int8}[precision]


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_programs_in_few_bits(precision, tmp_path):
    settings = {"num_items": 2000, "hidden_channels": 64, "linear_path.enabled": True}
    model, data = make({"image": 6, "text": 5}, **settings)
    path = tmp_path / "model.onnx"
    export(model, path, precision=precision)
    whole = sum(one.nbytes for one in Program(model).state_dict().values())
    assert path.stat().st_size < 0.7 * whole
    found = run_onnx(path, LISTS)
    # The cost of rounding is measured with a model of rounded tables.
    same(found, rounded(model, precision).recommend(history_index=LISTS))
    exact = model.recommend(history_index=LISTS)
    torch.testing.assert_close(found[1], exact[1], rtol=0.05, atol=0.05)
    assert not torch.equal(found[1], exact[1])
    assert evaluate(rounded(model, precision), data)["recall@20"] >= 0


def test_rounding_leaves_the_model_as_it_is():
    model, _ = make()
    before = model.recommend([0, 1], k=5)
    assert not torch.equal(rounded(model, "int8").recommend([0, 1], k=5)[1], before[1])
    assert torch.equal(model.recommend([0, 1], k=5)[1], before[1])


@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
@pytest.mark.parametrize("linear", [False, True])
def test_tables_of_a_model_in_double_precision_are_rounded(precision, linear):
    model, data = make({"image": 6}, linear_path={"enabled": linear, "rank": 16})
    model.double()
    found = rounded(model, precision)
    assert found.cached_tables().item.dtype == torch.float64
    same(Program(model, precision=precision)(*ragged(LISTS)), found.recommend(history_index=LISTS))
    assert evaluate(found, data)["recall@20"] >= 0


class ShiftedCNet(Part):
    """A custom C-Net: one layer on both signals, shifted by the step."""

    def __init__(self, channels, num_steps):
        super().__init__()
        self.linear = torch.nn.Linear(2 * channels, channels)
        self.shift = torch.nn.Embedding(num_steps + 1, channels)

    def forward(self, hidden, t, collaborative, preference):
        signals = torch.cat([collaborative, preference], dim=-1)
        return hidden + torch.tanh(self.linear(signals)) * torch.sigmoid(self.shift(t))


class SharpGate(Part):
    """A custom gate without parameters."""

    def forward(self, preference, shares):
        length = preference.norm(dim=-1)
        weight = shares * length
        return weight / weight.sum(dim=-1, keepdim=True).clamp(min=1e-9)


class BranchingCNet(torch.nn.Module):
    """A C-Net that cannot be exported."""

    def forward(self, hidden, t, collaborative, preference):
        return hidden if bool((hidden > 0).all()) else hidden + collaborative


def test_a_model_with_custom_parts_is_trained_saved_served_and_exported(tmp_path):
    data = random_data(30, 50, {"image": 6, "text": 5})
    parts = {
        "cnet": ShiftedCNet(8, 4),
        "gate": SharpGate(),
        "schedule": DiffusionSchedule.from_variances(torch.tensor([0.01, 0.05, 0.1, 0.2])),
    }
    torch.manual_seed(0)
    model = LD4MRec.from_data(data, hidden_channels=8, num_heads=2, **parts)
    before = model.cnet.linear.weight.detach().clone()
    fit(model, data, epochs=2, progress=False, accelerator="cpu")
    assert not torch.equal(model.cnet.linear.weight, before)
    model.save_pretrained(tmp_path / "run")
    loaded = LD4MRec.from_pretrained(tmp_path / "run")
    assert isinstance(loaded.cnet, ShiftedCNet)
    expected = model.recommend(history_index=LISTS, k=10)
    same(loaded.recommend(history_index=LISTS, k=10), expected)
    with local(tmp_path / "run") as client:
        found = client.post("/recommend", json={"history": ["1", "5", "2"], "k": 10}).json()
        assert [one["item_index"] for one in found["items"]] == expected[0][0].tolist()
        new = {"features": {"image": [[0.1] * 6]}}
        assert client.post("/items", json=new).json() == {"items": ["50"]}
    export(loaded, tmp_path / "model.pt2", "torch", k=10)
    program = torch.export.load(tmp_path / "model.pt2").module()
    export(loaded, tmp_path / "model.onnx", k=10)
    for lists in BATCHES:
        expected = model.recommend(history_index=lists, k=10)
        same(program(*ragged(lists)), expected)
        same(run_onnx(tmp_path / "model.onnx", lists), expected)


@pytest.mark.parametrize("format", ["torch", "onnx"])
def test_a_part_that_cannot_be_exported_is_named(format, tmp_path):
    data = random_data(30, 50, {"image": 6})
    model = LD4MRec.from_data(data, hidden_channels=8, cnet=BranchingCNet())
    assert model.recommend(history_index=[[1]], k=3)[0].shape == (1, 3)
    with pytest.raises(ConfigError, match=r"PyTorch cannot export this model: .*BranchingCNet"):
        export(model, tmp_path / "model", format)
    assert not list(tmp_path.iterdir())


def test_kind_f_raw_ids_in_a_program_are_text(tmp_path):
    model, _ = make()
    model.catalogue.item_ids = [2**60 + n for n in range(50)]
    export(model, tmp_path / "model.pt2", "torch", k=3)
    about = {"graphdiff.json": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=about)
    assert json.loads(about["graphdiff.json"])["item_ids"][1] == str(2**60 + 1)


def test_bad_requests_are_refused(tmp_path, monkeypatch):
    model, _ = make()
    path = tmp_path / "model"
    with pytest.raises(ConfigError, match="LightGCN cannot be exported; LD4MRec can"):
        export(make_model(MODELS["lightgcn"], random_data()), path)
    with pytest.raises(ConfigError, match="k = 51 with a catalogue of 50 items"):
        export(model, path, k=51)
    with pytest.raises(ConfigError, match="tables = 'int4'; it must be one of float32, bf16, int8"):
        export(model, path, precision="int4")
    with pytest.raises(ConfigError, match="format = 'tflite'; it must be one of torch, onnx"):
        export(model, path, "tflite")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"onnxscript.*pip install 'graphdiff-rec\[export\]'"):
        export(model, path)
    assert not list(tmp_path.iterdir())
