"""``update_run`` and ``forget_run``: versions of a RUN's model on disk."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from graphdiff.errors import ConfigError, DataError, RunError
from graphdiff.models import Recommender
from graphdiff.models.storage import load_model
from graphdiff.runs import open_run, read_run, resume_run, train_run
from graphdiff.training.config import run_config
from graphdiff.updates.run import forget_run, roll_back, update_run
from graphdiff.updates.verify import verify_forgotten
from graphdiff.updates.versions import VersionStore
from tests.command import run as command
from tests.updates.deaths import Death, dying_at
from tests.updates.runs import copied, files_of, train, write_batch, write_features

FAST = {"passes": 1}


@pytest.fixture
def run(trained_run, tmp_path):
    return copied(trained_run, tmp_path / "run")


def update(run, file, **options):
    return update_run(run, file, **{**FAST, **options})


def pairs_of(run):
    model = load_model(run, Recommender)
    user, item = model.graph.user.tolist(), model.graph.col.tolist()
    ids = model.catalogue
    return {(ids.user_id(u), ids.item_id(i)) for u, i in zip(user, item, strict=True)}


def test_an_update_is_a_new_version_and_the_model_of_the_run(run, tmp_path):
    before, original = pairs_of(run), load_model(run, Recommender)
    batch, image = write_batch(tmp_path), write_features(tmp_path)
    change = update(run, batch, features={"image": image})
    new = {(u, i) for u in (3, 70, 71) for i in (5, 50, 39, 51)}
    assert pairs_of(run) == before | new
    assert change.version.added == (2, 2, len(new - before))
    assert (change.version.number, change.version.parent) == (2, 1)
    store = VersionStore(run)
    assert store.numbers() == [1, 2]
    first = store.model(1)
    assert all(
        a.equal(b) for a, b in zip(first.state_dict().values(), original.state_dict().values(),
                                   strict=True)
    )  # fmt: skip
    assert store.state(1)["items.weight/step"] == 4  # As in the checkpoint: 2 epochs of 2 steps.
    assert store.state(2)["items.weight/step"] == 4 + change.result.steps
    model = load_model(run, Recommender)
    assert model.graph.features("image")[1][-2:].tolist() == [True, False]
    again = update(run, write_batch(tmp_path, users=(72,), items=(50,), name="next.csv"))
    assert (again.version.number, len(again.version.batches)) == (3, 2)


def test_the_whole_log_adds_what_training_held_out(tmp_path):
    random = np.random.default_rng(0)
    log = pd.DataFrame(
        {"user": random.integers(30, size=400), "item": random.integers(25, size=400)}
    )
    log = log.drop_duplicates().astype(str)
    log.to_csv(tmp_path / "interactions.csv", index=False)
    given = ("--dataset", "csv", "--root", tmp_path, "--epochs", "1", "--no-progress")
    small = ("--set", "hidden_channels=8", "--set", "objective.num_negatives=16")
    command("train", *given, *small, "--out", tmp_path / "run")
    every = set(map(tuple, log.to_numpy()))
    known = {tuple(map(str, pair)) for pair in pairs_of(tmp_path / "run")}
    assert known < every
    change = update(tmp_path / "run", tmp_path / "interactions.csv")
    assert change.version.added[2] == len(every) - len(known)
    assert {tuple(map(str, pair)) for pair in pairs_of(tmp_path / "run")} == every


def test_new_items_of_an_update_have_the_titles_of_a_file(run, tmp_path):
    batch, items = write_batch(tmp_path), tmp_path / "items.csv"
    pd.DataFrame({"item": [50, 3], "name": ["Blue mug", "Cup"]}).to_csv(items, index=False)
    with pytest.raises(DataError, match="none of the columns title, category, image"):
        update(run, batch, items=items)
    known = load_model(run, Recommender).catalogue.details
    command(
        *("update", run, "--interactions", batch, "--items", items),
        *("--option", "title=name", "--passes", 1),
    )
    shown = load_model(run, Recommender).catalogue
    assert shown.details.of(shown.positions("item")["50"]) == {"title": "Blue mug"}
    assert shown.details.of(3) == known.of(3)
    # Other titles are another batch, and nothing new.
    pd.DataFrame({"item": [50], "title": ["Cup"]}).to_csv(items, index=False)
    assert update(run, batch, items=items).result is None


def test_the_same_batch_twice_changes_nothing(run, tmp_path):
    batch = write_batch(tmp_path)
    update(run, batch)
    before = files_of(run)
    assert update(run, batch).result is None
    copy = tmp_path / "same content.csv"
    shutil.copy(batch, copy)
    assert update(run, copy).result is None
    assert files_of(run) == before
    # Other bytes, nothing new in them.
    assert update(run, write_batch(tmp_path, users=(70, 3, 71), name="other.csv")).result is None
    assert files_of(run) == before
    named = update(run, write_batch(tmp_path, users=(80,), name="a.csv"), batch="monday")
    assert named.version.batches[-1] == "monday"
    other = write_batch(tmp_path, users=(81,), name="b.csv")
    assert update(run, other, batch="monday").result is None


def test_only_the_last_versions_are_kept_and_any_of_them_can_return(run, tmp_path):
    for day in range(4):
        update(run, write_batch(tmp_path, users=(90 + day,), name=f"{day}.csv"), keep=3)
    store = VersionStore(run)
    assert store.numbers() == [3, 4, 5]
    newest = files_of(run)["model.safetensors"]
    assert roll_back(run, 3).number == 3
    assert (run / "model.safetensors").read_bytes() == (
        store.path(3) / "model.safetensors"
    ).read_bytes()
    assert not any(user in (92, 93) for user, _ in pairs_of(run))
    # What was rolled back can be taken in again, and follows from the version that is there.
    change = update(run, tmp_path / "2.csv", keep=3)
    assert (change.version.number, change.version.parent) == (6, 3)
    assert store.numbers() == [4, 5, 6]
    roll_back(run, 5)
    assert (run / "model.safetensors").read_bytes() == newest
    with pytest.raises(RunError, match="has no version 1; there are: 4, 5, 6"):
        roll_back(run, 1)


def test_forgetting_leaves_nothing_in_any_file(run, tmp_path):
    batch = write_batch(tmp_path, users=(3, 70))
    update(run, batch)
    before = pairs_of(run)
    change = forget_run(run, users=["70", "4"], items=["50"], **FAST)
    assert pairs_of(run) == {(u, i) for u, i in before if u not in (70, 4) and i != 50}
    store = VersionStore(run)
    assert store.numbers() == [3]
    assert not (run / "checkpoints").exists()
    ids = json.loads((run / "ids.json").read_text())
    assert not {4, 70} & set(ids["user"])
    assert 50 not in ids["item"]
    assert ids["user"][:5] == [0, 1, 2, 3, 5]
    assert set(change.checked) == {
        "model.safetensors",
        "ids.json",
        "items.json",
        "versions/0003/model.safetensors",
        "versions/0003/ids.json",
        "versions/0003/items.json",
        "versions/0003/state.safetensors",
    }
    # The batch is known, so sending it again does not bring them back.
    assert update(run, batch).result is None
    with pytest.raises(DataError, match="no user '70'"):
        forget_run(run, users=["70"], **FAST)


def test_the_check_finds_what_was_not_forgotten(run, tmp_path):
    update(run, write_batch(tmp_path))
    change = forget_run(run, users=["70"], **FAST)
    store = VersionStore(run)
    with pytest.raises(RunError, match="still knows the user '71'"):
        verify_forgotten(run, change.version, ["71"], [])
    with pytest.raises(RunError, match="still knows the item '5'"):
        verify_forgotten(run, change.version, [], ["5"])
    wrong = change.version.model_copy(update={"interactions": 1})
    with pytest.raises(RunError, match="interactions; expected"):
        verify_forgotten(run, wrong, ["70"], [])
    shutil.copytree(store.path(change.version.number), store.path(1))
    with pytest.raises(RunError, match="still has versions 1 from before"):
        verify_forgotten(run, change.version, ["70"], [])


def after_each_death(change, make, tmp_path):
    """Yield the RUN after a death at each step of a change, and the files that it should have."""
    change(make("warm"))  # Modules that are imported only now may be compiled to files.
    run = make("whole")
    with dying_at() as steps:
        change(run)
    total, whole = steps.count, files_of(tmp_path / "whole")
    assert total > 20
    for step in range(1, total + 1):
        run = make(f"killed-{step}")
        with dying_at(step), pytest.raises(Death):
            change(run)
        yield run, whole
        shutil.rmtree(run)


def test_kill_at_every_step_of_an_update_then_repeat(trained_run, tmp_path):
    batch, image = write_batch(tmp_path), write_features(tmp_path)
    first, second = write_batch(tmp_path, users=(80,), name="first.csv"), batch
    before = copied(trained_run, tmp_path / "before")
    update(before, first)

    def change(run):
        update(run, second, features={"image": image}, keep=1)

    def make(name):
        return copied(before, tmp_path / name)

    models = set()
    for run, whole in after_each_death(change, make, tmp_path):
        pairs_of(run)  # The model can be loaded at any time.
        models.add(read_run(run).version.number)
        change(run)
        assert files_of(run) == whole
    assert models == {2, 3}


def test_kill_at_every_step_of_the_first_update_then_repeat(trained_run, tmp_path):
    batch = write_batch(tmp_path)

    def make(name):
        return copied(trained_run, tmp_path / name)

    for run, whole in after_each_death(lambda run: update(run, batch), make, tmp_path):
        update(run, batch)
        assert files_of(run) == whole


def test_kill_at_every_step_of_forget_then_repeat(trained_run, tmp_path):
    before = copied(trained_run, tmp_path / "before")
    update(before, write_batch(tmp_path))

    def change(run):
        forget_run(run, users=["70"], **FAST)

    def make(name):
        return copied(before, tmp_path / name)

    for run, whole in after_each_death(change, make, tmp_path):
        committed = read_run(run).version.number == 3
        if committed:  # What was forgotten is unknown, and the old versions go.
            with pytest.raises(DataError, match="no user '70'"):
                change(run)
        else:
            change(run)
        assert files_of(run) == whole


def test_a_storage_error_leaves_the_run_as_it_was(run, tmp_path, monkeypatch):
    from graphdiff.errors import StorageError
    from tests.test_crash_safety import no_file_larger_than

    first = write_batch(tmp_path, users=(80,), name="first.csv")
    update(run, first)
    before = files_of(run)
    with no_file_larger_than(4096), pytest.raises(StorageError):
        update(run, write_batch(tmp_path))
    assert files_of(run) == before


def test_two_processes_cannot_change_a_run_at_once(run, tmp_path):
    store = VersionStore(run)
    with store.locked(), pytest.raises(RunError, match="being changed by another process"):
        update(run, write_batch(tmp_path))
    assert update(run, write_batch(tmp_path)).version.number == 2


def test_an_updated_run_is_not_evaluated_or_resumed(run, tmp_path):
    update(run, write_batch(tmp_path))
    with pytest.raises(
        RunError, match=r"holds version 2 of .*`graphdiff versions .* --rollback 1`"
    ):
        open_run(run)
    with pytest.raises(RunError, match="resuming its training would replace"):
        resume_run(run, progress=False)
    roll_back(run, 1)
    open_run(run)
    dataset = {"name": "synthetic", "options": read_run(run).dataset.options}
    config = run_config({"model": {"name": "popularity"}, "dataset": dataset})
    train_run(run, config, overwrite=True, progress=False)
    assert not (run / "versions").exists()
    assert read_run(run).version.number == 0


@pytest.mark.parametrize("change", ["prune", "forget"])
def test_no_return_is_advised_to_a_version_that_is_gone(run, tmp_path, change):
    if change == "prune":
        update(run, write_batch(tmp_path), keep=1)
    else:
        forget_run(run, users=["3"], **FAST)
    with pytest.raises(RunError, match=r"or train again .*version 1 is no longer there") as error:
        open_run(run)
    assert "rollback" not in str(error.value)


def test_a_model_that_cannot_be_updated_says_so(tmp_path):
    run = train(tmp_path / "run", model="lightgcn", epochs=1)
    before = files_of(run)
    with pytest.raises(ConfigError, match="LightGCN cannot be updated"):
        update(run, write_batch(tmp_path))
    assert {name: c for name, c in files_of(run).items() if ".lock" not in name} == before


def test_files_are_read_as_those_of_the_dataset(run, tmp_path):
    rated = tmp_path / "rated.tsv"
    rows = {"customer": [3, 70], "article": [50, 50], "stars": [5, 1]}
    pd.DataFrame(rows).to_csv(rated, sep="\t", index=False)
    columns = {"user": "customer", "item": "article", "rating": "stars", "min_rating": 3}
    change = update(run, rated, options=columns)
    assert change.version.added == (0, 1, 1)
    with pytest.raises(DataError, match="customer, article, stars"):
        update(run, rated, batch="again")
    with pytest.raises(ConfigError, match="no option split"):
        update(run, rated, options={"split": "ratio"})


def test_what_cannot_be_read_changes_nothing(run, tmp_path):
    batch = write_batch(tmp_path)
    update(run, batch)
    before = files_of(run)
    np.save(tmp_path / "x.npy", np.ones((3, 64)))
    later = write_batch(tmp_path, users=(99,), name="later.csv")
    for path, features, message in (
        (tmp_path / "none.csv", {}, "no file"),
        (later, {"image": tmp_path / "x.npy"}, "has no item ids"),
        (later, {"smell": write_features(tmp_path)}, "features are of 'smell'"),
    ):
        with pytest.raises(DataError, match=message):
            update(run, path, features=features)
    with pytest.raises(ConfigError, match="keep is 0"):
        update(run, later, keep=0)
    assert files_of(run) == before


def test_the_commands(run, tmp_path):
    batch, image = write_batch(tmp_path), write_features(tmp_path)
    line = ["update", run, "--interactions", batch, "--features", f"image={image}", "--passes", 1]
    assert "is at version 2: +2 users, +2 items" in command(*line).stdout
    assert "nothing new" in command(*line).stdout
    assert json.loads(command(*line, "--json").stdout)["changed"] is False
    listed = command("versions", run).stdout
    assert "2 *" in listed
    rolled = json.loads(command("versions", run, "--rollback", 1, "--json").stdout)
    assert [one["current"] for one in rolled] == [True, False]
    command("versions", run, "--rollback", 2)
    done = command("forget", run, "--user", "70", "--item", "50", "--passes", 1).stdout
    assert "is at version 3: -1 users, -1 items" in done
    assert "checked: versions/0003/state.safetensors" in done
    error = command("recommend", run, "--user", "70", expect=2).stderr
    assert "no user '70'" in error
    assert "give the id of a user or an item" in command("forget", run, expect=2).stderr
