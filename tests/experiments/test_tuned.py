import pytest
import yaml

from graphdiff.datasets.registry import DATASETS
from graphdiff.errors import ConfigError
from graphdiff.experiments.tuned import TUNED, trainings_of_defaults, tuned_settings, tuning_record
from graphdiff.models.registry import find_model

FILES = sorted(TUNED.glob("*/*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_file_fits_its_model(path):
    assert path.parent.name in DATASETS
    settings = tuned_settings(path.parent.name, path.stem)
    find_model(path.stem).configure(settings)
    record = tuning_record(path.parent.name, path.stem)
    assert record["trials"] >= 1
    assert 0 < record["val"]["ndcg@20"] < record["val"]["recall@20"] < 1


def test_trainings_that_led_to_defaults_are_those_of_known_data_and_models():
    counts = yaml.safe_load((TUNED / "defaults.yaml").read_text())
    for dataset, models in counts.items():
        assert dataset in DATASETS
        for model, count in models.items():
            assert find_model(model)
            assert count > 0
            assert trainings_of_defaults(dataset.upper(), model.upper()) == count
    assert trainings_of_defaults("tiktok", "popularity") == trainings_of_defaults("mine", "ld4mrec")
    assert trainings_of_defaults("mine", "ld4mrec") == 0


def test_names_are_read_in_any_case():
    assert tuned_settings("TikTok", "LightGCN") == tuned_settings("tiktok", "lightgcn")
    assert tuned_settings("tiktok", "lightgcn")["num_layers"] >= 1


def test_a_model_that_was_not_tuned_has_no_settings():
    assert tuned_settings("synthetic", "nothing") == {}


def test_a_folder_is_preferred_to_the_files_of_the_package(tmp_path):
    (tmp_path / "tiktok").mkdir()
    (tmp_path / "tiktok" / "lightgcn.yaml").write_text("settings: {num_layers: 9}\n")
    assert tuned_settings("tiktok", "lightgcn", tmp_path) == {"num_layers": 9}
    assert tuned_settings("tiktok", "bprmf", tmp_path) == tuned_settings("tiktok", "bprmf")


def test_a_file_of_other_data_is_passed_over(tmp_path):
    path, lines = tmp_path / "tiktok" / "lightgcn.yaml", []
    path.parent.mkdir()

    def found(*fingerprints):
        lines.clear()
        record = tuning_record(
            "tiktok", "lightgcn", tmp_path, data=lambda: fingerprints, report=lines.append
        )
        return record["settings"]

    search = "search: {fingerprint: a1, fingerprint_without_times: b2}"
    path.write_text(f"settings: {{num_layers: 9}}\n{search}\n")
    # Found with times, and the same data with and without them.
    assert found("a1", "b2") == found("b2", "b2") == {"num_layers": 9}
    assert lines == []
    # The files that come with graphdiff state no data.
    assert found("c3", "d4") == tuned_settings("tiktok", "lightgcn")
    [line] = lines
    assert line.startswith(f"{path} is not used: it was found on other data, of fingerprint a1 ")
    assert "instead of c3; find settings of this data with `graphdiff tune`" in line
    # Found without times, as are those of earlier versions.
    path.write_text("settings: {num_layers: 9}\nsearch: {fingerprint: b2}\n")
    assert found("a1", "b2") == {"num_layers": 9}
    path.write_text("settings: {num_layers: 9}\nsearch: {seed: 0}\n")
    assert found("a1", "b2") == {"num_layers": 9}


@pytest.mark.parametrize("text", ["[1]", "settings: [1]", "search: [1]", "settings: {", "text"])
def test_a_damaged_file_is_an_error(tmp_path, text):
    (tmp_path / "tiktok").mkdir()
    (tmp_path / "tiktok" / "lightgcn.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"lightgcn\.yaml"):
        tuned_settings("tiktok", "lightgcn", tmp_path)
