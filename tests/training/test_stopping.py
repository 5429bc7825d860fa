"""The rule that ends a training, on recorded and on constructed learning curves."""

import json
import random
from pathlib import Path

import pytest

import graphdiff
from graphdiff.training.stopping import is_past

ROOT = Path(graphdiff.__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
#: Users and training interactions.
SIZES = {
    "tiktok": (9_308, 59_541),
    "lfm2k": (1_858, 44_327),
    "ml-1m-clean": (5_949, 403_277),
    "ml-1m-noisy": (5_949, 429_993),
}
#: Validation recall@20 of a ranking by popularity.
POPULARITY = {
    "synthetic": 0.067,
    "tiktok": 0.063,
    "lfm2k": 0.132,
    "ml-1m-clean": 0.079,
    "ml-1m-noisy": 0.056,
}
OVER_USERS = {
    "ld4mrec",
    "ld4mrec-paper",
    "ldiffrec",
    "diffmm",
    "multvae",
    "diffrec",
    "giffcf",
    "mmssl",
}


def recorded_comparisons():
    """Curves of committed comparisons, with the steps of an epoch."""
    for name, (users, interactions) in SIZES.items():
        result = json.loads((RESULTS / f"{name}.json").read_text())
        for model, found in result["models"].items():
            for seed in found["seeds"]:
                if len(seed["history"]) == 1:
                    continue
                num = users if model in OVER_USERS else interactions
                steps = -(-num // found["settings"]["batch_size"])
                curve = [(row["epoch"], row["recall@20"]) for row in seed["history"]]
                yield pytest.param(curve, steps, name, id=f"{name}-{model}-{seed['seed']}")


def recorded_speed():
    """Curves of small datasets, with few steps in an epoch."""
    for path in sorted(RESULTS.glob("speed-*.json")):
        result = json.loads(path.read_text())
        for model, found in result["models"].items():
            for run in found["runs"]:
                curve = [(row["epoch"], row["recall@20"]) for row in run["curve"]]
                if len(curve) > 1:
                    name = f"{path.stem}-{model}-{run['seed']}"
                    data = path.stem.removeprefix("speed-")
                    yield pytest.param(curve, run["steps_per_epoch"], data, id=name)


def end(curve, steps, **settings):
    """Return after how many epochs a training with this curve ends; None where it does not."""
    for epochs in range(1, len(curve) + 1):
        if is_past(curve[:epochs], epochs, epochs * steps, **settings):
            return epochs
    return None


@pytest.mark.parametrize(("curve", "steps", "data"), [*recorded_comparisons(), *recorded_speed()])
def test_no_recorded_training_ends_before_its_best_epoch(curve, steps, data):
    epochs, values = zip(*curve, strict=True)
    # As RecommenderModule.validations: fewer validations where they are epochs apart.
    patience = max(-(-30 // max(epochs[-1] // len(epochs), 1)), 10)
    for n in range(1, len(values) + 1):
        known = {"popularity": POPULARITY[data], "patience": patience}
        if is_past(values[:n], epochs[n - 1], epochs[n - 1] * steps, **known):
            break
    assert max(values[:n]) == max(values)


def noisy(values, deviation, seed=0):
    draw = random.Random(seed)
    return [value + draw.gauss(0, deviation) for value in values]


def test_a_plateau_at_the_start_is_waited_for():
    # LightGCN where features and popularity are equally good: 14 steps an epoch, rising after 51.
    plateau = [0.093, 0.101] + [0.099] * 49
    rise = [0.099 + 0.034 * n / 150 for n in range(150)]
    curve = noisy(plateau, 0.0005) + noisy(rise, 0.0005)
    assert end(curve, 14) is None


def test_one_step_an_epoch_is_not_stopped_by_patience_alone():
    curve = noisy([0.05] * 300, 0.001) + noisy([0.05 + 0.001 * n for n in range(200)], 0.001)
    assert end(curve, 1) is None


@pytest.mark.parametrize("steps", [1, 4, 1000])
def test_a_curve_that_declines_ends_after_patience(steps):
    curve = [0.1 + 0.005 * n for n in range(25)] + [0.22 - 0.001 * n for n in range(300)]
    assert 55 <= end(curve, steps) <= 60


def test_a_long_decline_ends_a_training_that_began_well():
    curve = [0.19 + 0.001 * n for n in range(20)] + [0.21 - 0.0002 * n for n in range(300)]
    assert 4 * 30 <= end(curve, 4) <= 150


def test_a_curve_that_begins_far_above_popularity_has_started():
    curve = [0.19 + 0.001 * n for n in range(25)] + [0.215 - 0.001 * n for n in range(300)]
    assert 55 <= end(curve, 4, popularity=0.07) <= 60
    assert end(curve, 4, popularity=0.13) == end(curve, 4) > 120


def test_a_curve_that_has_levelled_off_ends_after_enough_epochs():
    curve = [0.1 + 0.005 * min(n, 24) for n in range(400)]
    assert end(curve, 4) == 120
    assert end(curve, 100) == 55  # more than 1500 steps


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_rise_after_a_first_value_that_was_high_is_followed(seed):
    # GiffCF on Last.fm-2K: its graph score alone is good, and passed after 150 epochs.
    rise = [0.35 + 0.0002 * n for n in range(300)]
    curve = [0.38, *noisy(rise, 0.001, seed), *noisy([0.41] * 400, 0.001, seed)]
    ended = end(curve, 19, patience=15)
    assert max(curve[:ended]) > 0.405
    assert ended < 500


def test_a_rise_after_a_dip_is_followed():
    curve = [0.08, 0.06] + [0.03 + 0.0004 * n for n in range(100)] + [0.07] * 60
    assert end(curve, 30) > 110
    assert end(curve, 30, patience=4, min_steps=0) == 5  # too few values for a trend


@pytest.mark.parametrize("deviation", [0, 0.0005, 0.001, 0.003])
@pytest.mark.parametrize(("depth", "length"), [(0.02, 10), (0.15, 50)])
def test_a_plateau_after_a_dip_ends(deviation, depth, length):
    # The dip is behind, and the best value stays out of reach.
    dip = [0.37 - depth * (1 - abs(2 * n / length - 1)) for n in range(length)]
    curve = [0.4, *noisy(dip, deviation), *noisy([0.37] * 500, deviation)]
    assert end(curve, 100) < length + 150
