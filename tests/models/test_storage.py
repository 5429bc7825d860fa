"""Files of a model belong together: they are replaced together and read together."""

import copy
import io
import json
import os
import pickle
import signal
import sys

import pytest
import torch
import yaml

from graphdiff import fit
from graphdiff.errors import RunError
from graphdiff.models import EASE, MODELS, LD4MRec, LightGCN, Recommender
from graphdiff.models.storage import STAGED, save_model
from graphdiff.schema import ItemDetails, build_data
from tests.conftest import make_model, random_data
from tests.graph.test_recency import timed_data
from tests.sealing import reseal
from tests.updates.samples import contents

every_model = pytest.mark.parametrize("model_class", MODELS.values(), ids=list(MODELS))


def with_ids(prefix="a", num_items=9, seed=0):
    data = random_data(num_items=num_items, seed=seed)
    model = make_model(LightGCN, data, seed=seed)
    model.catalogue.item_ids = [f"{prefix}{n}" for n in range(num_items)]
    return model.eval()


def without_ids(seed=1):
    return make_model(LightGCN, random_data(seed=seed), seed=seed).eval()


def answers(model):
    item, score = model.recommend([0, 3], k=4)
    return item.tolist(), score.tolist(), model.catalogue.item_ids


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_kind_e_a_model_without_ids_replaces_one_with_ids(tmp_path):
    with_ids().save_pretrained(tmp_path)
    assert names(tmp_path) == ["config.yaml", "ids.json", "model.safetensors"]
    model = without_ids()
    model.save_pretrained(tmp_path)
    assert names(tmp_path) == ["config.yaml", "model.safetensors"]
    assert answers(LightGCN.from_pretrained(tmp_path)) == answers(model)


def test_kind_e_ids_that_the_model_does_not_have_are_not_read(tmp_path):
    model = without_ids()
    model.save_pretrained(tmp_path)
    (tmp_path / "ids.json").write_text(json.dumps({"user": None, "item": list("abcdefghi")}))
    assert answers(LightGCN.from_pretrained(tmp_path)) == answers(model)


def test_kind_e_lost_ids_are_missed(tmp_path):
    with_ids().save_pretrained(tmp_path)
    (tmp_path / "ids.json").unlink()
    with pytest.raises(RunError, match=r"has no ids\.json, which config\.yaml names; copy the who"):
        LightGCN.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["ids.json", "model.safetensors", "config.yaml"])
def test_kind_e_files_of_two_models_are_not_read_together(tmp_path, name):
    for folder, prefix in (("one", "a"), ("other", "b")):
        with_ids(prefix, seed=len(prefix) + ord(prefix)).save_pretrained(tmp_path / folder)
    (tmp_path / "one" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(RunError, match=r"not the file that config\.yaml belongs to: its SHA-256"):
        LightGCN.from_pretrained(tmp_path / "one")
    reseal(tmp_path / "one")  # only the digest did not fit
    LightGCN.from_pretrained(tmp_path / "one")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["a", "b", "a", *"defghi"], "raw item id 'a' is given more than once"),
        ([5, "5", *range(20, 27)], "raw item id '5' is given more than once"),
        ([None, *"bcdefghi"], "must be text or integers; found None"),
        ([["a"], *"bcdefghi"], r"must be text or integers; found \['a'\]"),
        ([1.5, *"bcdefghi"], "must be text or integers; found 1.5"),
        ([True, *"bcdefghi"], "must be text or integers; found True"),
        (list("abcdefgh"), "8 raw item ids but 9 items"),
        (dict.fromkeys("abcdefghi"), "expected a list of ids"),
        ("abcdefghi", "expected a list of ids"),
        (None, "expected a list of ids"),
    ],
)
def test_kind_e_ids_that_are_none_are_refused(tmp_path, items, message):
    with_ids().save_pretrained(tmp_path)
    (tmp_path / "ids.json").write_text(json.dumps({"user": None, "item": items}))
    reseal(tmp_path)
    with pytest.raises(RunError, match=message):
        LightGCN.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"3", b'{"user": null}', b"\xff"])
def test_kind_e_a_file_of_ids_that_holds_none(tmp_path, content):
    with_ids().save_pretrained(tmp_path)
    (tmp_path / "ids.json").write_bytes(content)
    reseal(tmp_path)
    with pytest.raises(RunError, match=r"ids\.json does not hold the raw ids of this model"):
        LightGCN.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        None,
        {},
        [],
        "model.safetensors",
        {"ids.json": "0" * 64},
        {"model.safetensors": "../../etc/passwd"},
        {"model.safetensors": None},
        {"model.safetensors": "0" * 64, "other": "0" * 64},
        {1: 2},
    ],
)
def test_kind_e_a_config_without_digests_is_refused(tmp_path, files):
    without_ids().save_pretrained(tmp_path)
    path = tmp_path / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["model"]["files"] = files
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(RunError, match=r"digest.* of model\.safetensors"):
        LightGCN.from_pretrained(tmp_path)


def test_kind_e_ids_of_every_kind_come_back(tmp_path):
    users, items = ["ann", "ß", '"'], [2**53 + 1, -1, 0, 10**18]
    data = build_data(3, 4, [[0, 0, 1, 2], [0, 1, 2, 3]], user_ids=users, item_ids=items)
    make_model(LightGCN, data).save_pretrained(tmp_path)
    catalogue = LightGCN.from_pretrained(tmp_path).catalogue
    assert (catalogue.user_ids, catalogue.item_ids) == (users, items)


def save_and_be_killed(model, folder, at):
    """Save in a child that is killed at its n-th change of a file; whether it was."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def watch(event, arguments):
            nonlocal count
            changes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_RDWR
            if changes or event in ("os.rename", "os.remove"):
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1

        sys.addaudithook(watch)
        save_model(model, folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("kinds", ["ids to ids", "ids to none", "none to ids", "same ids"])
def test_kind_e_a_folder_is_whole_whenever_saving_is_killed(tmp_path, kinds):
    old = without_ids() if kinds.startswith("none") else with_ids("a")
    new = without_ids(7) if kinds.endswith("none") else with_ids("b", seed=5)
    if kinds == "same ids":
        new.catalogue.item_ids = old.catalogue.item_ids
    seen, at, killed = [], 0, True
    while killed:
        folder = tmp_path / str(at)
        old.save_pretrained(folder)
        killed = save_and_be_killed(new, folder, at)
        found = answers(LightGCN.from_pretrained(folder))
        assert found in (answers(old), answers(new))
        seen.append(found == answers(new))
        new.save_pretrained(folder)
        assert answers(LightGCN.from_pretrained(folder)) == answers(new)
        assert not list(folder.glob(f".*{STAGED}"))
        at += 1
    # The change is made once, and there were moments before and after it.
    assert seen == sorted(seen)
    assert len(seen) > 5
    assert not seen[0]
    assert seen[-2]


def test_kind_e_a_model_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    old, new = with_ids("a"), without_ids()
    old.save_pretrained(tmp_path)
    rebuild = LightGCN.rebuild.__func__
    calls = []

    def replaced_meanwhile(cls, *args):
        calls.append(args)
        if len(calls) == 1:
            new.save_pretrained(tmp_path)
            raise ValueError("the file has changed under the reader")
        return rebuild(cls, *args)

    monkeypatch.setattr(LightGCN, "rebuild", classmethod(replaced_meanwhile))
    assert answers(LightGCN.from_pretrained(tmp_path)) == answers(new)


def copies(model):
    yield copy.deepcopy(model)
    yield pickle.loads(pickle.dumps(model))  # noqa: S301
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    yield torch.load(file, weights_only=False)


@every_model
def test_kind_e_every_model_can_be_copied_before_and_after_it_answers(model_class):
    data = random_data(features={"image": 6, "text": 5}, density=0.5)
    settings = {"num_neighbors": 3} if "num_neighbors" in model_class.Config.model_fields else {}
    model = make_model(model_class, data, **settings)
    if model_class.batch_over != "nothing":
        generator = torch.Generator().manual_seed(0)
        model.start_epoch(generator)
        model.loss(torch.arange(6), generator).backward()
    for training in (True, False):
        model.train(training)
        fresh = list(copies(model))
        expected = model.recommend([0, 5], k=4)
        model.interaction_scores([0])
        for other in [*fresh, *copies(model)]:
            assert other.training == training
            for found, wanted in zip(other.recommend([0, 5], k=4), expected, strict=True):
                assert torch.equal(found, wanted)


def test_kind_e_a_copy_goes_its_own_way():
    model = without_ids()
    before = answers(model)
    other, shallow = copy.deepcopy(model), copy.copy(model)
    other.remove_items([before[0][0][0]])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    assert answers(other) != before
    shallow.invalidate_tables()
    shallow.tables = lambda: (_ for _ in ()).throw(AssertionError)
    assert answers(model) == before


def test_kind_e_a_loaded_model_can_be_saved_again(tmp_path):
    model = with_ids()
    model.save_pretrained(tmp_path / "one")
    Recommender.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "other")
    for name in names(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_titles_are_saved_with_the_model_and_removed_with_it(tmp_path):
    model = with_ids()
    model.catalogue.details = ItemDetails(9, {"title": [f"T{n}" for n in range(9)]})
    model.save_pretrained(tmp_path)
    assert names(tmp_path) == ["config.yaml", "ids.json", "items.json", "model.safetensors"]
    loaded = LightGCN.from_pretrained(tmp_path)
    assert loaded.catalogue.details == model.catalogue.details
    without_ids().save_pretrained(tmp_path)
    assert names(tmp_path) == ["config.yaml", "model.safetensors"]
    assert not LightGCN.from_pretrained(tmp_path).catalogue.details


@pytest.mark.parametrize(
    "content", [b"[]", b'{"title": ["a"]}', b'{"name": []}', b'{"title": 5}', b"{", b"[" * 10**5]
)
def test_damaged_titles_are_refused(content, tmp_path):
    model = with_ids()
    model.catalogue.details = ItemDetails(9, {"title": ["a"] * 9})
    model.save_pretrained(tmp_path)
    (tmp_path / "items.json").write_bytes(content)
    with pytest.raises(RunError, match="is not the file that"):
        LightGCN.from_pretrained(tmp_path)
    reseal(tmp_path)
    with pytest.raises(RunError, match="does not hold titles"):
        LightGCN.from_pretrained(tmp_path)


def changed_in_double_precision(change):
    data = timed_data(num_users=30, num_items=25, features={"image": 6})
    model = LD4MRec.from_data(data, hidden_channels=8, batch_size=16)
    fit(model, data, epochs=1, precision="64-true", progress=False, accelerator="cpu")
    model.recency.exponent.fill_(0.5)
    change(model)
    return model


@pytest.mark.parametrize(
    "change",
    [
        lambda model: None,
        lambda model: model.update({"user": [0, 77], "item": [8, 99]}, passes=1),
        lambda model: model.forget(user_id=5, item_id=3, passes=1),
        lambda model: model.graph.register_buffer("age", model.graph.age.float()),
        lambda model: model.graph.float(),
    ],
    ids=["trained", "updated", "forgotten", "float32 ages", "float32 graph"],
)
def test_a_model_in_double_precision_is_loaded_as_it_was(change, tmp_path):
    model = changed_in_double_precision(change)
    model.save_pretrained(tmp_path)
    loaded = LD4MRec.from_pretrained(tmp_path)
    assert loaded.bias.dtype == torch.float64
    state = model.state_dict()
    for name, found in loaded.state_dict().items():
        assert found.dtype == state[name].dtype, name
        assert torch.equal(found, state[name]), name
    users = torch.arange(model.num_users)
    for asked in ({"user_index": users}, {"history_index": [[3, 1, 2], [7]]}):
        for found, expected in zip(
            loaded.recommend(**asked, k=20), model.recommend(**asked, k=20), strict=True
        ):
            assert torch.equal(found, expected)
    assert torch.equal(loaded(users), model(users))


def test_double_buffers_of_a_graph_do_not_make_a_model_double(tmp_path):
    model = LD4MRec.from_data(timed_data(), hidden_channels=8)
    model.graph.double()
    model.save_pretrained(tmp_path)
    loaded = LD4MRec.from_pretrained(tmp_path)
    assert loaded.bias.dtype == torch.float32
    assert loaded.graph.age.dtype == torch.float64


def test_learned_buffers_decide_where_there_are_no_parameters(tmp_path):
    model = make_model(EASE, random_data()).double()
    model.save_pretrained(tmp_path)
    loaded = EASE.from_pretrained(tmp_path)
    assert contents(loaded) == contents(model)
    assert torch.equal(loaded(torch.arange(12)), model(torch.arange(12)))


def test_weights_that_do_not_fit_may_be_of_another_version(tmp_path):
    model = LD4MRec.from_data(random_data(), hidden_channels=8, linear_path={"enabled": True})
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.yaml"
    config = yaml.safe_load(path.read_text())
    # What an earlier version decided by the size of the data otherwise.
    config["model"]["settings"]["linear_path"]["enabled"] = None
    path.write_text(yaml.safe_dump(config))
    message = r"does not hold the weights .*another version of graphdiff, train the model again"
    with pytest.raises(RunError, match=f"(?s){message}"):
        LD4MRec.from_pretrained(tmp_path)
