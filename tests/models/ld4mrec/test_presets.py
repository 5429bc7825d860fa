"""The preset of the paper: its settings, its signals against dense matrices, its life cycle."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from dense_reference import chain_on_rows, dense_losses, dense_rows

from graphdiff import LD4MRec, Recommender, compare, evaluate, fit
from graphdiff.errors import ConfigError
from graphdiff.models.base import Query
from graphdiff.models.config import flat_settings
from graphdiff.models.ld4mrec.presets import PAPER
from graphdiff.models.ld4mrec.reverse_chain import corrupted_rows
from graphdiff.models.ld4mrec.row_encoding import encode_scaled_rows
from graphdiff.serving.export import export
from tests.conftest import random_data

PAGE = Path(__file__).parents[3] / "docs" / "paper-preset.md"
FEATURES = {"image": 6, "text": 5}


def make(num_users=30, num_items=20, features=FEATURES, **settings):
    """A model of the preset, in double precision and away from its start, in evaluation mode."""
    torch.manual_seed(0)
    data = random_data(num_users, num_items, features)
    model = LD4MRec.from_data(data, preset="paper", **{"hidden_channels": 8, **settings}).double()
    model.start_epoch(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    return model.eval()


def normalized_rows(model):
    """The matrix that is decomposed, float64 [U, I]."""
    rows = model.graph.rows(torch.arange(model.num_users))
    dense = dense_rows(rows, model.num_items, torch.float64)
    users, items = dense.sum(dim=1, keepdim=True), dense.sum(dim=0).clamp(min=1)
    return dense / (users * items).sqrt()


def test_the_page_lists_the_settings():
    rows = re.findall(r"^\| `([\w.]+)` \| `(.+?)` \|", PAGE.read_text(), re.MULTILINE)
    assert {name: yaml.safe_load(value) for name, value in rows} == PAPER
    assert len(rows) == len(PAPER)


def test_the_settings_replace_the_defaults_and_are_replaced_by_given_ones():
    found = flat_settings(LD4MRec.configure("paper"))
    defaults = flat_settings(LD4MRec.configure())
    assert found == defaults | PAPER
    given = {"num_heads": 2, "objective": {"ranking": 0.5}, "diffusion.num_steps": 7}
    changed = flat_settings(LD4MRec.configure("paper", **given))
    expected = {"num_heads": 2, "objective.ranking": 0.5, "diffusion.num_steps": 7}
    assert changed == found | expected


@pytest.mark.parametrize("channels", [4, 8])
def test_the_collaborative_signal_is_the_truncated_svd(channels):
    model = make(hidden_channels=channels)
    matrix = normalized_rows(model)
    left, values, right = np.linalg.svd(matrix.numpy())
    assert np.diff(values[: channels + 1]).max() < -1e-6  # so that vectors are unique up to signs
    rows = model.graph.rows(torch.arange(model.num_users))
    encoded = encode_scaled_rows(model.tables().row_encoder, rows)
    signal = model.tables().split(encoded)[1][:, :channels]
    expected = left[:, :channels] * values[:channels]
    # Vectors are stored in single precision.
    np.testing.assert_allclose(signal.abs().numpy(), np.abs(expected), atol=1e-6)
    np.testing.assert_allclose((signal @ signal.t()).numpy(), expected @ expected.T, atol=1e-6)
    unseen = torch.zeros(1, model.num_items, dtype=torch.float64)
    unseen[0, [1, 4, 6]] = 3**-0.5
    degree = model.graph.item_degree().clamp(min=1).double()
    projected = (unseen / degree.sqrt()) @ torch.from_numpy(right[:channels].copy()).t()
    folded = unseen @ model.messages.singular()
    torch.testing.assert_close(folded.abs(), projected.abs(), atol=1e-6, rtol=0)


def test_more_channels_than_singular_vectors_are_zero():
    model = make(num_users=30, num_items=9, hidden_channels=16)
    table = model.messages.singular()
    assert table[:, :8].any(dim=0).all()
    assert not table[:, 9:].any()
    assert model.recommend([0, 1], k=3)[1].isfinite().all()


def test_preferences_aggregate_features_with_the_weights_of_the_paper():
    model = make()
    rows = model.graph.rows(torch.arange(model.num_users))
    tables = model.tables()
    preference = tables.split(encode_scaled_rows(tables.row_encoder, rows))[1][:, 8:]
    matrix = normalized_rows(model)
    for name, found in zip(model.graph.modalities, preference.split(8, dim=1), strict=True):
        x = model.graph.features(name)[0].double()
        content = model.messages.features
        centred = x / x.norm(dim=1, keepdim=True) - getattr(content, f"centre_{name}")
        spread = centred @ getattr(content, f"directions_{name}")
        position = content.modalities.index(name)
        weight = content.weight.split(content.ranks)[position]
        mapped = spread / spread.norm(dim=1, keepdim=True) @ weight
        torch.testing.assert_close(found, matrix @ mapped, atol=1e-6, rtol=1e-5)


def test_training_is_the_squared_error_on_dense_rows_alone():
    model = make().train()
    model.schedule.variance.zero_()  # no noise
    rows, position = model.graph.located_rows(torch.arange(model.num_users))
    draw = model.draw(rows, torch.Generator().manual_seed(0))
    assert draw.visible.all()
    sparse, dense = model.row_losses(rows, draw, position[:0]), dense_losses(model, rows, draw)
    torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-9)
    found = []
    for losses in (sparse, dense):
        model.zero_grad()
        losses.mean().backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() <= found[1].keys()
    assert {"gate.weight", "messages.features.weight", "items.weight"} <= found[0].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-9, atol=1e-9)
    # What only a ranking loss would train.
    assert found[1].keys() - found[0].keys() <= {"bias", "heads.log_temperature"}
    assert not any(found[1][name].any() for name in found[1].keys() - found[0].keys())


@pytest.mark.parametrize("num_heads", [1, 2])
def test_scores_are_the_reconstructed_row(num_heads):
    model = make(num_heads=num_heads)
    user = torch.arange(model.num_users)
    rows = model.graph.rows(user)
    tables = model.tables()
    encoded = encode_scaled_rows(tables.row_encoder, rows)
    hidden = tables.inference.cnet(*_with_step(tables.inference.signals(encoded)))
    scale = model.reconstruction.scale / num_heads
    expected = scale * hidden @ tables.encoder.t() + model.reconstruction.bias
    torch.testing.assert_close(model(user), expected, rtol=1e-9, atol=1e-9)
    assert model.recommend(user, k=3, num_steps=2)[1].isfinite().all()


def _with_step(signals):
    hidden, collaborative, preference = signals
    return hidden, 0, collaborative, preference


def test_the_reverse_chain_ends_in_the_same_scores_as_on_dense_rows():
    model = make(**{"diffusion.num_steps": 3, "diffusion.noise_scale": 0.5})
    rows, tables = model.graph.rows(torch.arange(model.num_users)), model.tables()
    gram = (tables.encoder.t() @ tables.encoder).unsqueeze(0)
    start = corrupted_rows(model.process, tables.encoder, None, rows, gram)
    # Any row with this encoding will do: the network sees encoded rows only.
    expected = chain_on_rows(model, rows, start @ torch.linalg.pinv(tables.encoder))
    found = model.user_vectors(Query(rows), tables, num_steps=3)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_score_is_explained():
    model = make()
    explanation = model.explain(4, user_index=2)
    assert "collaborative" not in explanation.parts  # it guides the network alone
    assert sum(explanation.parts.values()) == pytest.approx(explanation.score, abs=1e-9)
    assert explanation.score == pytest.approx(model(torch.tensor([2]))[0, 4].item(), abs=1e-9)


def test_items_can_be_added():
    model = make()
    before = model.recommend([0, 1], k=5)
    new = {"image": torch.randn(2, 6), "text": torch.full((2, 5), torch.nan)}
    assert model.add_items(new).tolist() == [20, 21]
    assert model.messages.singular()[20:].abs().max() == 0
    expected = model.messages.features.by_modality()["image"][20:]
    torch.testing.assert_close(model.tables().encoder[20:], expected)
    items, scores = model.recommend([0, 1], k=5, candidate_index=list(range(20)))
    assert torch.equal(items, before[0])
    torch.testing.assert_close(scores, before[1])


@pytest.mark.parametrize("features", [{}, FEATURES], ids=len)
def test_a_model_is_trained_saved_loaded_served_and_exported(features, tmp_path):
    data = random_data(40, 25, features)
    model = LD4MRec.from_data(data, preset="paper", hidden_channels=8)
    start = model.items.weight.detach().clone()
    fit(model, data, epochs=3, accelerator="cpu", progress=False, out=tmp_path / "run")
    assert not torch.equal(model.items.weight, start)
    again = Recommender.from_pretrained(tmp_path / "run")
    assert type(again) is LD4MRec
    assert again.config == model.config
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]
    assert (saved["name"], saved["settings"]["objective"]["ranking"]) == ("LD4MRec", 0.0)
    assert evaluate(again, data) == evaluate(model, data)
    history = [[1, 3, 5], []]
    items, scores = again.recommend(history_index=history, k=4)
    assert torch.equal(items, model.recommend(history_index=history, k=4)[0])
    export(again, tmp_path / "model.pt2", "torch", k=4)
    program = torch.export.load(tmp_path / "model.pt2").module()
    found = program(torch.tensor([1, 3, 5]), torch.tensor([0, 3]))
    assert torch.equal(found[0], items)
    torch.testing.assert_close(found[1], scores, rtol=0, atol=1e-4)


def test_both_are_rows_of_a_comparison():
    result = compare(
        random_data(40, 30, FEATURES), ["ld4mrec", "ld4mrec-paper"], epochs=1, tuned=False,
        settings={name: {"hidden_channels": 8} for name in ("ld4mrec", "ld4mrec-paper")},
    )  # fmt: skip
    assert set(result.models) == {"ld4mrec", "ld4mrec-paper"}
    assert "LD4MRec (paper)" in str(result)
    assert result.settings("ld4mrec-paper").items() >= PAPER.items()
    assert result.settings("ld4mrec")["objective.ranking"] == 1
    assert result.content["models"]["ld4mrec-paper"]["seeds"][0]["test"]


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="LD4MRec has no preset 'papr'; it has paper"):
        LD4MRec.from_data(random_data(), preset="papr")
    with pytest.raises(ConfigError, match="content_rank=0; give at least 1"):
        LD4MRec.configure("paper", content_rank=0)
    with pytest.raises(ConfigError, match="every=5, but maps of features are trained"):
        LD4MRec.configure("paper", propagation={"every": 5})
