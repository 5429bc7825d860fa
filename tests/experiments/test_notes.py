import pytest
import torch

from graphdiff import compare
from graphdiff.experiments.notes import masking, notes
from graphdiff.experiments.protocol import Protocol
from tests.conftest import random_data


def test_skipped_cells_are_reported(content):
    content["skipped"] = [{"model": "freedom", "seed": 1, "reason": "no room"}]
    assert "Skipped: FREEDOM, seed 1: no room." in notes(content)


def test_settings_that_another_device_found_are_reported(content):
    assert not any("hours are that machine's" in note for note in notes(content))
    here = dict(content["machine"])
    there = {**here, "device": "NVIDIA X"}
    for name, machines in (("lightgcn", [here, there]), ("ld4mrec", [here])):
        tuning = {**content["models"][name]["tuning"], "machines": machines}
        content["models"][name]["tuning"] = tuning
    expected = "Trials of LightGCN ran on NVIDIA X: their hours are that machine's."
    assert expected in notes(content)


def test_models_that_another_device_trained_are_reported():
    result = compare(random_data(40, 30), ["lightgcn", "popularity"], epochs=1).content
    assert not any("Trained on" in note for note in notes(result))
    for seed in result["models"]["lightgcn"]["seeds"]:
        assert seed["device"] == result["machine"]["device"]
        seed["device"] = "NVIDIA X"
    assert "Trained on NVIDIA X: LightGCN; their cost is that device's." in notes(result)
    # Earlier versions did not state the device.
    del result["models"]["popularity"]["seeds"][0]["device"]
    assert sum("Trained on" in note for note in notes(result)) == 1


@pytest.mark.parametrize(
    ("mask_validation", "expected"),
    [(False, "training items masked"), (True, "training and validation items masked")],
)
def test_what_was_masked_is_stated_from_the_run(content, mask_validation, expected):
    # An old file states it wrongly in words; what was done counts.
    content["protocol"] |= {
        "mask_validation": mask_validation,
        "ranking": "training items left out",
    }
    assert masking(content).endswith(f"with the user's {expected}")
    assert expected in notes(content)[0]
    assert "left out" not in notes(content)[0]


def test_trainings_that_ran_out_of_time_are_listed():
    result = compare(random_data(40, 30), ["lightgcn", "ease"], epochs=2, max_minutes=1e-9)
    found = notes(result.content)
    assert "or 1e-09 minutes (validations not counted) at the latest" in found[0]
    assert (
        "Ended by the limit of time, 1e-09 minutes: LightGCN, seed 0 (best epoch 1 of 1)." in found
    )
    assert not any("more time" in note for note in found)


@pytest.mark.parametrize("ended", [None, 2.0])
def test_trainings_that_had_more_time_than_others_are_listed(ended):
    content = compare(random_data(40, 30), ["lightgcn", "ease"], epochs=2).content
    seed = content["models"]["lightgcn"]["seeds"][0]
    seed |= {"train_seconds": 120.4, "out_of_time": ended}
    content["models"]["ease"]["seeds"][0]["train_seconds"] = 500.0  # a closed form
    del seed["max_minutes"]  # As in results of earlier versions.
    expected = "Had more time than this limit: LightGCN, seed 0 (120 s)."
    for minutes, listed in ((None, False), (1.0, True), (2.0, ended is None), (3.0, False)):
        content["protocol"]["max_minutes"] = minutes
        assert (expected in notes(content)) == listed


def test_a_training_that_is_done_when_its_time_is_up_had_no_more_time_than_others():
    content = compare(random_data(40, 30), "lightgcn", epochs=2, max_minutes=2).content
    seed = content["models"]["lightgcn"]["seeds"][0]
    assert (seed["max_minutes"], seed["out_of_time"]) == (2, None)
    seed["train_seconds"] = 120.4
    assert Protocol(max_minutes=2).allows(seed)
    assert not Protocol(max_minutes=1).allows(seed)
    assert not any("more time" in note for note in notes(content))


def test_trainings_that_had_less_time_than_others_are_listed():
    content = compare(random_data(40, 30), "lightgcn", epochs=2, max_minutes=1e-9).content
    content["protocol"]["max_minutes"] = 60.0
    [line] = [note for note in notes(content) if note.startswith("Ended by")]
    assert line.startswith("Ended by an earlier limit of time, 1e-09 minutes: LightGCN, seed 0")


def test_models_that_know_the_order_are_named_where_there_is_one():
    data = random_data(40, 30)
    for known in (False, True):
        if known:
            num = data["user", "interacts", "item"].edge_index.size(1)
            data["user", "interacts", "item"].time = torch.arange(num)
        settings = {"ld4mrec": {"hidden_channels": 8}}
        models = ["ease", "ld4mrec", *(["ease-recent"] if known else [])]
        content = compare(data, models, epochs=1, settings=settings).content
        named = [note for note in notes(content) if "read the order" in note]
        assert len(named) == known
    assert sorted(named[0].split(":")[0].split(", ")) == ["EASE (recent)", "LD4MRec"]
