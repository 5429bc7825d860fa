"""Updates with texts and images of new items, encoded as at training."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from graphdiff import datasets
from graphdiff.datasets.encoders import encode_tfidf
from graphdiff.datasets.tfidf import TfidfEncoder
from graphdiff.errors import ConfigError, DataError
from graphdiff.models import Recommender
from graphdiff.models.storage import IDS, WEIGHTS, load_model
from graphdiff.runs import encoder_file, train_run
from graphdiff.training.config import run_config
from graphdiff.updates.run import update_run
from graphdiff.updates.versions import VersionStore
from tests.command import run as command
from tests.updates.runs import SETTINGS, copied, files_of, write_batch

WORDS = ["red", "blue", "wool", "silk", "shoe", "coat", "hat"]


def text_of(item):
    return f"{WORDS[item % 7]} {WORDS[item * 3 % 7]} {WORDS[item * 5 % 7]}"


def write_texts(folder, items, name="texts.csv", text=text_of, item="item"):
    frame = pd.DataFrame({item: items, "title": [text(item) for item in items]})
    frame.to_csv(folder / name, index=False)
    return folder / name


def config_of(raw, **options):
    return run_config(
        {
            "model": {"name": "ld4mrec", "settings": SETTINGS},
            "dataset": {"name": "csv", "root": str(raw), "options": options},
            "training": {"epochs": 1, "accelerator": "cpu"},
        }
    )


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    random = np.random.default_rng(0)
    pairs = np.unique(random.integers((20, 25), size=(240, 2)), axis=0)
    pd.DataFrame(pairs, columns=["user", "item"]).to_csv(folder / "log.csv", index=False)
    write_texts(folder, range(25))
    return folder


@pytest.fixture(scope="module")
def text_run(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text") / "run"
    options = {"file": "log.csv", "content": {"text": "texts.csv"}, "encoder": "tfidf"}
    train_run(folder, config_of(raw, **options), progress=False)
    return folder


TEXTS = [text_of(item) for item in range(25)]


def text_features(run, item):
    model = load_model(run, Recommender)
    values, has = model.graph.features("text")
    position = model.catalogue.positions("item")[str(item)]
    return values[position], bool(has[position])


class TestTexts:
    def test_a_new_item_has_the_features_that_training_would_have_given_it(
        self, text_run, tmp_path
    ):
        run = copied(text_run, tmp_path / "run")
        known, _ = text_features(run, 3)
        # Items 3 and 45 have the same text, 46 has no known word.
        texts = {45: text_of(3), 46: "velvet", 47: f"{text_of(4)} velvet"}
        content = write_texts(tmp_path, list(texts), text=texts.get)
        batch = write_batch(tmp_path, users=(1, 2), items=(45, 46, 47))
        change = update_run(run, batch, content={"text": content}, passes=1)
        assert change.result.items == 3
        new, has = text_features(run, 45)
        assert has
        assert torch.allclose(new, known, atol=1e-4)
        assert not text_features(run, 46)[1]
        assert torch.allclose(text_features(run, 47)[0], text_features(run, 4)[0], atol=1e-4)

    def test_the_command_does_the_same(self, text_run, tmp_path):
        runs = [copied(text_run, tmp_path / name) for name in ("a", "b")]
        content = write_texts(tmp_path, [45], item="item_id")
        batch = write_batch(tmp_path, users=(1, 2), items=(45,))
        update_run(runs[0], batch, content={"text": content}, passes=1)
        given = ["--interactions", batch, "--content", f"text={content}", "--passes", 1]
        command("update", runs[1], *given)
        assert torch.equal(text_features(runs[0], 45)[0], text_features(runs[1], 45)[0])

    def test_other_texts_are_another_batch(self, text_run, tmp_path):
        run = copied(text_run, tmp_path / "run")
        batch = write_batch(tmp_path, users=(1,), items=(45,))
        assert update_run(run, batch, passes=1).result is not None
        assert update_run(run, batch, passes=1).result is None
        content = write_texts(tmp_path, [45])
        first, again = (update_run(run, batch, content={"text": content}) for _ in range(2))
        assert len(first.version.batches) == len(again.version.batches)
        with pytest.raises(DataError, match=r"no file .*none\.csv"):
            update_run(run, batch, content={"text": tmp_path / "none.csv"})

    def test_a_damaged_encoder_changes_nothing(self, text_run, tmp_path):
        run = copied(text_run, tmp_path / "run")
        batch = write_batch(tmp_path, users=(1,), items=(45,))
        content = {"text": write_texts(tmp_path, [45])}
        stored = encoder_file(run, "text")
        stored.write_bytes(stored.read_bytes()[:-8])
        before = files_of(run)
        with pytest.raises(DataError, match="cannot be read as an encoder of texts"):
            update_run(run, batch, content=content)
        stored.unlink()
        with pytest.raises(ConfigError, match=r"has no encoders.text\.safetensors.*train again"):
            update_run(run, batch, content=content)
        after = files_of(run)
        assert all(after[name] == before[name] for name in (WEIGHTS, IDS))
        assert VersionStore(run).pointer.number <= 1

    def test_a_modality_that_was_not_encoded(self, trained_run, text_run, tmp_path):
        batch = write_batch(tmp_path, users=(1,), items=(45,))
        content = write_texts(tmp_path, [45])
        with pytest.raises(ConfigError, match="'image' has both features and content"):
            update_run(trained_run, batch, {"image": content}, content={"image": content})
        with pytest.raises(ConfigError, match=r"'image'.* not come from texts .*--features image="):
            update_run(trained_run, batch, content={"image": content})
        folder = tmp_path / "images"
        folder.mkdir()
        Image.new("RGB", (2, 2)).save(folder / "45.png")
        with pytest.raises(ConfigError, match=r"'text'.* not come from images .*--features text="):
            update_run(text_run, batch, content={"text": folder})

    def test_a_new_training_replaces_the_encoder(self, raw, text_run, tmp_path):
        run = copied(text_run, tmp_path / "run")
        train_run(run, config_of(raw, file="log.csv"), overwrite=True, progress=False)
        assert not encoder_file(run, "text").parent.exists()


class TestImages:
    def test_images_are_encoded_by_the_extra(self, raw, text_run, tmp_path, monkeypatch):
        def means(paths):
            return [[np.asarray(Image.open(path)).mean()] * 2 for path in paths]

        monkeypatch.setattr("graphdiff.datasets.layouts.log.encode_images", means)
        monkeypatch.setattr("graphdiff.updates.content.encode_images", means)
        source, photos = tmp_path / "raw", tmp_path / "new"
        (source / "photos").mkdir(parents=True)
        photos.mkdir()
        (source / "log.csv").write_bytes((raw / "log.csv").read_bytes())
        for item in range(25):
            Image.new("L", (2, 2), item).save(source / "photos" / f"{item}.png")
        options = {"file": "log.csv", "content": {"image": "photos"}}
        train_run(tmp_path / "run", config_of(source, **options), progress=False)
        Image.new("L", (2, 2), 99).save(photos / "45.png")
        batch = write_batch(tmp_path, users=(1,), items=(45,))
        update_run(tmp_path / "run", batch, content={"image": photos}, passes=1)
        model = load_model(tmp_path / "run", Recommender)
        position = model.catalogue.positions("item")["45"]
        assert model.graph.features("image")[0][position].tolist() == [99, 99]


class TestEncoder:
    def test_it_maps_the_texts_it_was_fitted_to_to_their_features(self):
        encoder, features = TfidfEncoder.fit(TEXTS)
        assert np.allclose(encoder(TEXTS), features, atol=1e-4)
        assert np.array_equal(encode_tfidf(TEXTS), features)

    @pytest.mark.parametrize("texts", [TEXTS, ["one", "one"], ["ü_ß ñ", "ñ 漢字"]])
    def test_a_file_has_the_same_encoder(self, texts, tmp_path):
        encoder, _ = TfidfEncoder.fit(texts, channels=4)
        encoder.save(tmp_path / "encoder.safetensors")
        again = TfidfEncoder.load(tmp_path / "encoder.safetensors")
        assert again.words == encoder.words
        assert np.array_equal(again(texts), encoder(texts))

    def test_parts_that_do_not_fit(self, tmp_path):
        encoder, _ = TfidfEncoder.fit(TEXTS)
        encoder.idf = encoder.idf[:-1]
        encoder.save(tmp_path / "encoder.safetensors")
        with pytest.raises(DataError, match=r"7 words, weights \[6\]"):
            TfidfEncoder.load(tmp_path / "encoder.safetensors")

    def test_articles_of_citeulike(self, tmp_path):
        (tmp_path / "users.dat").write_text("3 0 1 2\n2 1 2\n")
        (tmp_path / "item-tag.dat").write_text("2 0 1\n0\n1 1\n")
        (tmp_path / "tags.dat").write_text("graph\nmodel\n")
        data = datasets.load("citeulike-a", tmp_path)
        encoder = data.text_encoders()["text"]
        found = encoder(["graph model", "model"])
        assert np.allclose(found, data[0]["item"].x_text[[0, 2]].numpy(), atol=1e-5)
        mean = datasets.load("citeulike-a", tmp_path, encode=lambda texts: [[1.0] for _ in texts])
        assert mean.text_encoders() == {}
