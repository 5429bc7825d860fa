import numpy as np
import pytest
from safetensors.numpy import load_file

from graphdiff.errors import DataError
from graphdiff.evaluation.significance import compare_models
from graphdiff.experiments.evidence import UserValues, gains


def test_values_per_user_are_kept_beside_the_json(pages, content):
    values = load_file(pages / "a.users.safetensors")
    assert values["user"].size == sum(one["users"] for one in content["groups"]["users"])
    for name, entry in content["models"].items():
        for cell in entry["seeds"]:
            for metric in ("recall@20", "ndcg@20"):
                column = values[f"{name}/{cell['seed']}/{metric}"]
                assert column.shape == values["user"].shape
                assert column.mean(dtype=np.float64) == pytest.approx(cell["test"][metric])


def test_statistics_are_those_of_the_means_over_seeds(pages, content):
    values = load_file(pages / "a.users.safetensors")
    found = content["statistics"]["metrics"]["ndcg@20"]
    averaged = {
        name: (values[f"{name}/0/ndcg@20"].astype(float) + values[f"{name}/1/ndcg@20"]) / 2
        for name in content["models"]
    }
    for name, expected in compare_models(averaged).items():
        assert found[name]["rival"] == expected.rival
        assert found[name]["p_wilcoxon_holm"] == pytest.approx(expected.p_wilcoxon_holm)
        assert found[name]["difference_interval"] == pytest.approx(expected.difference_interval)
        assert found[name]["mean"] == pytest.approx(
            content["models"][name]["mean"]["test"]["ndcg@20"]
        )


def test_gains_count_every_user_once(pages, content):
    values = load_file(pages / "a.users.safetensors")
    for metric, models in content["statistics"]["gains"].items():
        averaged = {
            name: (values[f"{name}/0/{metric}"].astype(float) + values[f"{name}/1/{metric}"]) / 2
            for name in content["models"]
        }
        for name, found in models.items():
            difference = averaged[name] - averaged[found["rival"]]
            difference[abs(difference) < 1e-6] = 0
            assert found["better"] == (difference > 0).sum() == sum(found["counts"][10:])
            assert found["worse"] == (difference < 0).sum() == sum(found["counts"][:10])
            assert found["better"] + found["worse"] + found["equal"] == difference.size


def test_means_over_seeds_that_are_equal_but_for_rounding_are_equal():
    # A third, a half and one in another order of seeds.
    values = np.float32([1 / 3, 1 / 2, 1]).astype(np.float64)
    third = np.float32((1 / 3 + 1 / 2 + 1) / 3).astype(np.float64)
    found = gains(np.array([values.mean(), 0.5]), np.array([third, 0.25]))
    assert (found["better"], found["equal"], found["worse"]) == (1, 1, 0)


def test_values_of_other_data_are_not_read(pages, content):
    path = pages / "a.users.safetensors"
    own, other = UserValues(path, content["fingerprint"]), UserValues(path, "other")
    own.load()
    other.load()
    assert own.arrays
    assert not other.arrays


def test_a_damaged_file_is_an_error(tmp_path):
    path = tmp_path / "a.users.safetensors"
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"a\.users\.safetensors cannot be read"):
        UserValues(path, "x").load()
