"""The generated log over time: reproducible, with arrivals and drift."""

import numpy as np
import pytest

from graphdiff.datasets import InteractionLog, SyntheticDrift, SyntheticMultimedia, load
from graphdiff.datasets.cards import read_card
from graphdiff.datasets.splits import cutoff_times, split_by_time
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, fingerprint, modalities, validate

DAY = 86_400


@pytest.fixture(scope="module")
def dataset():
    return SyntheticDrift(num_users=400, num_items=200, num_days=30)


def small(**changes):
    return SyntheticDrift(**({"num_users": 50, "num_items": 40, "num_days": 8} | changes))


def test_a_seed_is_a_log():
    one, two, other = (small(seed=seed).read_log() for seed in (3, 3, 4))
    for name in ("user", "item", "time"):
        assert np.array_equal(getattr(one.log, name), getattr(two.log, name))
    assert not np.array_equal(one.log.item[:50], other.log.item[:50])
    assert fingerprint(small(seed=3)[0]) == fingerprint(small(seed=3)[0])


def test_the_log_is_in_order_of_time_and_has_each_pair_once(dataset):
    log, features = dataset.read_log()
    assert (np.diff(log.time) >= 0).all()
    assert log.time.min() >= 0
    assert log.time.max() < 30 * DAY
    assert len(np.unique(log.user.astype(np.int64) * 200 + log.item)) == len(log)
    assert {name: table.values.shape for name, table in features.items()} == {
        "audio": (200, 32),
        "image": (200, 64),
        "text": (200, 48),
    }


def test_the_graph_has_the_times_of_training(dataset):
    log, store = dataset.read_log().log, dataset[0][INTERACTS]
    when = dict(zip(zip(log.user.tolist(), log.item.tolist(), strict=True), log.time, strict=True))
    pairs = list(map(tuple, store.edge_index.t().tolist()))
    assert store.time.tolist() == [when[pair] for pair in pairs]
    later = [when[pair] for pair in map(tuple, store.test_edge_label_index.t().tolist())]
    assert store.time.max() < min(later)


def test_interactions_of_each_user_can_be_split_at_random():
    log, store = small().read_log().log, small(split="ratio")[0][INTERACTS]
    parts = [store.edge_index, store.val_edge_label_index, store.test_edge_label_index]
    assert sum(part.size(1) for part in parts) == len(log)
    # Some that are held out are earlier than some that are trained on.
    later = small()[0][INTERACTS].time.max()
    assert store.time.max() > later
    with pytest.raises(ConfigError, match="split"):
        small(split="column")


def test_users_and_items_keep_arriving(dataset):
    log = dataset.read_log().log
    for cutoff in cutoff_times(log.time, 4):
        found = split_by_time(log.user, log.item, log.time, cutoff)
        assert found.new_users > 0
        assert found.new_items > 5
        assert found.of_new_items > 0.05 * (found.label == 2).sum()


def test_a_drifting_taste_changes_what_a_user_chooses():
    def agreement(drift):
        """How similar the items of a user's first and last days are, by their image."""
        found = SyntheticDrift(num_users=300, num_items=200, num_days=20, drift=drift).read_log()
        log, x = found.log, found.features["image"].values
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        early, late = log.time < 6 * DAY, log.time >= 14 * DAY
        means = []
        for part in (early, late):
            total = np.zeros((300, 64))
            np.add.at(total, log.user[part], x[log.item[part]])
            means.append(total - x[log.item].mean(axis=0) * np.bincount(
                log.user[part], minlength=300)[:, None])  # fmt: skip
        return (means[0] * means[1]).sum() / np.sqrt((means[0] ** 2).sum() * (means[1] ** 2).sum())

    assert agreement(0.0) > agreement(1.0) + 0.1


def test_the_graph_is_split_at_two_points_in_time(dataset):
    data = dataset[0]
    validate(data)
    assert modalities(data) == ["audio", "image", "text"]
    sizes = [
        data[INTERACTS][name].size(1)
        for name in ("edge_index", "val_edge_label_index", "test_edge_label_index")
    ]
    shares = np.array(sizes) / sum(sizes)
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


def test_the_card_has_its_statistics():
    found = read_card("synthetic-drift").content["statistics"]
    dataset = load("synthetic-drift")
    assert (found["users"], found["items"]) == (dataset.num_users, dataset.num_items)
    assert found["interactions"] == len(dataset.read_log().log)
    assert found["days"] == dataset.num_days


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_days": 4}, "num_days is 4; give at least 5"),
        ({"num_items": 3}, "num_items is 3; give at least 20"),
        ({"drift": 1.5}, "drift is 1.5; give a share"),
    ],
)
def test_arguments_out_of_range_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        small(**changes)


def test_logs_in_files_have_times_too(tmp_path):
    lines = ["user,item,when,stars"]
    lines += [f"{n % 5},{n % 7},2020-01-{n + 1:02d},{n % 5}" for n in range(20)]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    found = InteractionLog(tmp_path, timestamp="when", rating="stars", min_rating=2).read_log()
    assert len(found.log) == 12
    assert (np.diff(found.log.time) > 0).all()
    with pytest.raises(DataError, match="the log has no column 'timestamp'"):
        InteractionLog(tmp_path).read_log()
    with pytest.raises(ConfigError, match="SyntheticMultimedia has no log with times"):
        SyntheticMultimedia(num_users=30, num_items=20).read_log()
