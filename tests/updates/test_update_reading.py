"""How ``update_run`` reads files: times, ids and options."""

import shutil

import numpy as np
import pandas as pd
import pytest

from graphdiff.errors import ConfigError, DataError
from graphdiff.models import Recommender
from graphdiff.models.storage import load_model
from graphdiff.runs import train_run
from graphdiff.training.config import run_config
from graphdiff.updates.run import update_run
from graphdiff.updates.versions import VersionStore
from tests.command import run as command
from tests.updates.runs import SETTINGS, copied, files_of, write_batch

COLUMNS = ["user", "item", "timestamp"]


def train_on(folder, frame, header=True, **options):
    """A RUN of a log in a CSV file."""
    raw = folder / "raw"
    raw.mkdir()
    frame.to_csv(raw / "log.csv", index=False, header=header)
    dataset = {"name": "csv", "root": str(raw), "options": options}
    training = {"epochs": 1, "accelerator": "cpu"}
    model = {"name": "ld4mrec", "settings": SETTINGS}
    config = {"model": model, "dataset": dataset, "training": training}
    train_run(folder / "run", run_config(config), progress=False)
    return folder / "run"


def log_of(num=240):
    random = np.random.default_rng(0)
    rows = np.stack([random.integers(20, size=num), random.integers(25, size=num), np.arange(num)])
    return pd.DataFrame(rows.T, columns=COLUMNS).drop_duplicates(["user", "item"])


@pytest.fixture(scope="module")
def timed_run(tmp_path_factory):
    return train_on(tmp_path_factory.mktemp("timed"), log_of())


@pytest.fixture(scope="module")
def named_run(tmp_path_factory):
    """A RUN whose options name the column of times."""
    frame = log_of().rename(columns={"timestamp": "day"})
    return train_on(tmp_path_factory.mktemp("named"), frame, timestamp="day")


@pytest.fixture(scope="module")
def headerless_run(tmp_path_factory):
    return train_on(tmp_path_factory.mktemp("headerless"), log_of(), header=False, names=COLUMNS)


def update(run, file, **options):
    return update_run(run, file, **{"passes": 1, **options})


def latest_first(run, user):
    """The items of a user from the latest to the earliest."""
    model = load_model(run, Recommender)
    rows = model.graph.rows(model.catalogue.user_index([user]))
    order = rows.age.argsort()
    return [str(model.catalogue.item_id(int(item))) for item in rows.item[order]]


def write(folder, rows, columns=COLUMNS, name="batch.csv", **options):
    pd.DataFrame(rows, columns=columns).to_csv(folder / name, index=False, **options)
    return folder / name


#: Rows that are not in the order of their times, and the items in that order, the latest first.
SHUFFLED = [(900, 3, "2024-01-02", 5), (900, 1, "2024-01-03", 5), (900, 2, "2024-01-01", 5)]
ORDER = ["1", "3", "2"]


@pytest.mark.parametrize("options", [{}, {"rating": "stars", "min_rating": 4}])
def test_items_of_a_file_have_the_order_of_its_times(timed_run, tmp_path, options):
    run = copied(timed_run, tmp_path / "run")
    update(run, write(tmp_path, SHUFFLED, [*COLUMNS, "stars"]), options=options)
    assert latest_first(run, 900) == ORDER


def test_the_time_column_is_that_of_the_run_or_of_the_call(named_run, timed_run, tmp_path):
    batch = write(tmp_path, SHUFFLED, ["user", "item", "day", "stars"])
    for origin, options in ((named_run, {}), (timed_run, {"timestamp": "day"})):
        run = copied(origin, tmp_path / origin.parent.name)
        update(run, batch, options=options)
        assert latest_first(run, 900) == ORDER


def test_a_named_column_must_be_there(named_run, timed_run, trained_run, tmp_path):
    batch = write_batch(tmp_path)
    message = "day.csv has the columns user, item, but not day, which timestamp=day names"
    with pytest.raises(DataError, match=message):
        update(named_run, batch)
    for origin in (timed_run, trained_run):
        for column in ("timestamp", "rating"):
            with pytest.raises(DataError, match=f"but not when, which {column}=when names"):
                update(origin, batch, options={column: "when"})
    # Without times the order is that of the rows.
    run = copied(timed_run, tmp_path / "run")
    update(run, write(tmp_path, [(900, 3), (900, 1)], COLUMNS[:2], name="rows.csv"))
    assert latest_first(run, 900) == ["1", "3"]


def test_times_that_cannot_be_read_are_refused(timed_run, tmp_path):
    batch = write(tmp_path, [(900, 3, "2024-01-02"), (900, 1, "soon")])
    with pytest.raises(DataError, match=r"row 2 of the column timestamp, .* is 'soon'"):
        update(timed_run, batch)
    assert "900" not in load_model(timed_run, Recommender).catalogue.positions("user")


def test_a_header_is_no_user_of_a_run_without_headers(headerless_run, tmp_path):
    rows = [(900, 3, 10), (900, 1, 20)]
    batch = write(tmp_path, rows)
    message = "begins with a header, user and item, .* remove its first line, or give names=null"
    with pytest.raises(DataError, match=message):
        update(headerless_run, batch)
    other = write(tmp_path, rows, ["customer", "article", "day"], name="other.csv")
    with pytest.raises(DataError, match=r"row 1 of the column timestamp, .* is 'day'"):
        update(headerless_run, other)
    run = copied(headerless_run, tmp_path / "run")
    assert update(run, write(tmp_path, rows, name="rows.csv", header=False)).version.added[0] == 1
    assert update(run, batch, options={"names": None}).result is None
    line = ["update", run, "--interactions", other, "--passes", 1]
    shown = command(*line, "--option", "names=a,b,c", expect=2).stderr
    assert "other.csv has the columns a, b, c, but not user, item" in " ".join(shown.split())


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_ids_written_as_floats_are_the_known_ones(trained_run, tmp_path, suffix):
    run = copied(trained_run, tmp_path / "run")
    pairs = pd.DataFrame({"user": [3.0, 4.0, 70.0], "item": [5.0, 6.0, 39.0]})
    pairs.to_csv(tmp_path / f"a.{suffix}", index=False, sep="," if suffix == "csv" else "\t")
    values = {f"x_{n}": [1.0] for n in range(64)}
    pd.DataFrame({"item": [50.0], **values}).to_csv(tmp_path / "image.csv", index=False)
    pd.DataFrame({"item": [50.0], "title": ["Mug"]}).to_csv(tmp_path / "items.csv", index=False)
    change = update(
        run,
        tmp_path / f"a.{suffix}",
        features={"image": tmp_path / "image.csv"},
        items=tmp_path / "items.csv",
    )
    assert change.version.added[:2] == (1, 1)
    catalogue = load_model(run, Recommender).catalogue
    assert {"70", "3"} <= set(catalogue.positions("user"))
    assert catalogue.details.of(catalogue.positions("item")["50"]) == {"title": "Mug"}


def test_a_run_that_knows_ids_as_floats_keeps_them(tmp_path):
    frame = log_of()[["user", "item"]].astype(str)
    frame = frame.assign(user=frame["user"] + np.where(frame["user"] == "0", ".5", ".0"))
    run = train_on(tmp_path, frame)
    batch = write(tmp_path, [("3.0", 1), ("3.0", 2), ("77.0", 2)], COLUMNS[:2])
    assert update(run, batch).version.added[0] == 1
    pd.read_csv(batch).to_parquet(tmp_path / "batch.parquet")
    assert update(run, tmp_path / "batch.parquet").result is None


def test_options_are_part_of_the_batch(trained_run, tmp_path):
    run = copied(trained_run, tmp_path / "run")
    batch = write(tmp_path, [(3, 50, 5), (70, 50, 1)], ["user", "item", "stars"])
    rated = {"rating": "stars", "min_rating": 3}
    first = update(run, batch, options=rated)
    assert first.version.added == (0, 1, 1)
    assert update(run, batch, options={**rated, "user": "user"}).result is None
    before = files_of(run)
    assert update(run, batch, options=rated).result is None
    assert files_of(run) == before
    whole = update(run, batch)
    assert whole.version.added == (1, 0, 1)
    # Options that say what holds anyhow make no other batch.
    usual = {"user": "user", "delimiter": None}
    assert update(run, batch, options=usual).version.batches == whole.version.batches


def test_settings_and_options_are_checked_before_the_batch_is_known(trained_run, tmp_path):
    run = copied(trained_run, tmp_path / "run")
    batch = write_batch(tmp_path)
    update(run, batch)
    for settings, message in (
        ({"replay": 1}, "replay is 1"),
        ({"passes": 0}, "passes is 0; give at least 1"),
        ({"pases": 1}, "no setting 'pases'"),
        ({"options": {"min_rating": "stars"}}, "min_rating='stars': expected a number"),
        ({"options": {"names": "user,item"}}, "names='user,item': expected a list"),
        ({"options": {"delimiter": ""}}, "delimiter='': expected one or more characters"),
    ):
        with pytest.raises(ConfigError, match=message):
            update(run, batch, **settings)
    line = ["update", run, "--interactions", batch]
    assert "replay is 1" in command(*line, "--replay", 1, expect=2).stderr
    shown = command(*line, "--option", "rating=stars", expect=2).stderr
    assert "not stars, which rating=stars names" in " ".join(shown.split())
    assert VersionStore(run).numbers() == [1, 2]


def test_a_tab_may_be_written_as_an_escape(trained_run, tmp_path):
    run = copied(trained_run, tmp_path / "run")
    batch = write_batch(tmp_path)
    shutil.move(batch, tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text().replace(",", "\t")
    (tmp_path / "a.csv").write_text(text)
    line = ["update", run, "--interactions", tmp_path / "a.csv", "--passes", 1]
    assert "is at version 2" in command(*line, "--option", "delimiter=\\t").stdout
