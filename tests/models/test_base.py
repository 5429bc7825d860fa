"""The interface that all models share, for every registered model."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from graphdiff.errors import ConfigError, DataError, RunError
from graphdiff.graph.store import RecGraph
from graphdiff.models import EASE, MODELS, Recommender
from graphdiff.models.base import Query
from graphdiff.schema import ItemDetails, build_data
from tests.conftest import SOLVED, TRAINED, make_model, random_data
from tests.sealing import reseal

every_model = pytest.mark.parametrize("model_class", MODELS.values(), ids=list(MODELS))
trained_model = pytest.mark.parametrize("model_class", TRAINED.values(), ids=list(TRAINED))
solved_model = pytest.mark.parametrize("model_class", SOLVED.values(), ids=list(SOLVED))


def make(model_class, seed=0, data=None, **settings):
    features = {"image": 6, "text": 5}
    data = data if data is not None else random_data(features=features, density=0.5)
    if "num_neighbors" in model_class.Config.model_fields:
        # With all others as neighbours, the graphs of all modalities would be the same.
        settings = {"num_neighbors": 3, **settings}
    return make_model(model_class, data, seed, **settings)


@every_model
def test_recommend_ranks_the_scores_and_leaves_seen_items_out(model_class):
    model = make(model_class).eval()
    users = torch.tensor([3, 0, 11])
    with torch.no_grad():
        expected = model(users)
    row, seen, *_ = model.graph.rows(users)
    expected[row, seen] = -torch.inf
    items, scores = model.recommend(users, k=4)
    torch.testing.assert_close(scores, expected.topk(4).values)
    torch.testing.assert_close(expected.gather(1, items), scores)
    every, _ = model.recommend(users, k=model.num_items, exclude_seen=False)
    assert every.sort(dim=1).values.tolist() == [list(range(model.num_items))] * 3


@every_model
def test_recommend_pads_lists_where_items_run_out(model_class):
    model = make(model_class)
    items, scores = model.recommend(0, k=model.num_items)
    left = model.num_items - model.graph.user_degree()[0].item()
    assert (items[0, :left] >= 0).all()
    assert items[0, left:].eq(-1).all()
    assert scores[0, left:].isneginf().all()


@every_model
def test_recommend_excludes_given_pairs(model_class):
    model = make(model_class)
    best = model.recommend([5, 6], k=1)[0][:, 0]
    items, _ = model.recommend([5, 6], k=9, exclude_index=(torch.tensor([1]), best[1:]))
    assert best[1] not in items[1]
    assert best[0] in items[0]


@every_model
def test_single_scores_agree_with_the_full_ranking(model_class):
    model = make(model_class).eval()
    users, items = torch.tensor([1, 4]), torch.tensor([8, 2])
    torch.testing.assert_close(model(users, items), model(users)[[0, 1], items])


@every_model
def test_bad_requests_are_refused(model_class):
    model = make(model_class)
    with pytest.raises(ConfigError, match="9"):
        model.recommend(0, k=10)
    with pytest.raises(ConfigError, match="user index 12 is out of range"):
        model.recommend(12, k=3)
    with pytest.raises(ConfigError, match="has no setting 'hiden_channels'; it has"):
        model_class.configure(hiden_channels=3)


@trained_model
def test_a_setting_out_of_range_is_refused(model_class):
    with pytest.raises(ConfigError, match="lr=-1"):
        model_class.configure(lr=-1)


@solved_model
def test_models_without_gradient_have_no_settings_of_training(model_class):
    with pytest.raises(ConfigError, match="has no setting 'lr'"):
        model_class.configure(lr=0.1)
    model = make(model_class)
    with pytest.raises(NotImplementedError, match="is not trained by gradient"):
        model.loss(torch.arange(3), torch.Generator())
    assert not list(model.parameters())
    assert model.num_parameters() > 0


@trained_model
def test_models_with_gradient_are_not_solved(model_class):
    with pytest.raises(NotImplementedError, match="is trained by gradient"):
        make(model_class).solve()


@solved_model
def test_solving_invalidates_the_tables(model_class):
    data = random_data(features={"image": 6, "text": 5}, density=0.5)
    model = make(model_class, data=data)
    expected = model.recommend(list(range(12)), k=3)
    unsolved = model_class(model.config, model.graph)
    before = unsolved.recommend(list(range(12)), k=3)[1]
    unsolved.solve()
    assert not torch.equal(unsolved.recommend(list(range(12)), k=3)[1], before)
    for found, wanted in zip(unsolved.recommend(list(range(12)), k=3), expected, strict=True):
        assert torch.equal(found, wanted)


@solved_model
def test_scores_come_in_blocks(model_class):
    model = make(model_class)
    users = torch.tensor([3, 0, 11])
    score_block = model.scorer(Query(model.graph.rows(users), users), model.tables())
    blocks = [score_block(start, min(start + 4, 9)).clone() for start in range(0, 9, 4)]
    torch.testing.assert_close(torch.cat(blocks, dim=1), model(users))


@solved_model
def test_a_history_without_training_interactions(model_class):
    # The last item has no training interaction.
    items, scores = make(model_class).recommend(history_index=[[8]], k=8)
    assert items.sort().values.tolist() == [list(range(8))]
    assert scores.isfinite().all()


@trained_model
def test_training_invalidates_the_tables(model_class):
    model = make(model_class)
    before = model.recommend(0, k=3)[1]
    generator = torch.Generator().manual_seed(0)
    model.train()
    model.start_epoch(generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.loss(torch.arange(5), generator).backward()
    optimizer.step()
    assert not torch.equal(model.recommend(0, k=3)[1], before)
    assert model.training


@trained_model
def test_every_parameter_is_trained(model_class):
    model = make(model_class)
    generator = torch.Generator().manual_seed(0)
    # Except frozen parameters, such as a gate that is switched off.
    idle = {name for name, p in model.named_parameters() if p.requires_grad}
    for _ in range(5):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        model.start_epoch(generator)
        num = model.num_users if model.batch_over == "users" else model.graph.num_interactions
        model.zero_grad()
        model.loss(torch.arange(num), generator).backward()
        idle -= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        # Parts that the model trains by itself.
        idle -= {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.01 * (p.grad if p.grad is not None else 0)
    assert not idle


@every_model
def test_a_saved_model_is_loaded_unchanged(model_class, tmp_path):
    model = make(model_class, seed=1)
    model.save_pretrained(tmp_path)
    for again in (model_class.from_pretrained(tmp_path), Recommender.from_pretrained(tmp_path)):
        assert type(again) is model_class
        assert str(again) == str(model)
        assert again.config == model.config
        for found, expected in zip(
            again.recommend([0, 5], k=4), model.recommend([0, 5], k=4), strict=True
        ):
            assert torch.equal(found, expected)


@trained_model
def test_reset_parameters_follows_the_seed(model_class):
    model = make(model_class)
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        model.reset_parameters()
        drawn.append(model(torch.arange(12)).detach())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@every_model
def test_raw_ids_survive_saving(model_class, tmp_path):
    data = build_data(
        3,
        4,
        torch.tensor([[0, 0, 1, 2], [0, 1, 2, 3]]),
        features={"image": torch.randn(4, 3)},
        user_ids=["ann", "bob", "cy"],
        item_ids=[10, 20, 30, 40],
    )
    model = make(model_class, data=data, hidden_channels=4)
    model.save_pretrained(tmp_path)
    again = model_class.from_pretrained(tmp_path)
    assert again.catalogue.user_index("bob").tolist() == [1]
    assert again.catalogue.user_id(1) == "bob"
    assert again.catalogue.item_id(2) == 30
    with pytest.raises(DataError, match="no user 'dora' among the 3 users"):
        again.catalogue.user_index("dora")


def test_data_that_does_not_fit_is_refused():
    data = random_data()
    data["user", "interacts", "item"].edge_index[1, 0] = 99
    with pytest.raises(DataError):
        MODELS["lightgcn"].from_data(data)


class TestDamagedFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        make(MODELS["lightgcn"]).save_pretrained(tmp_path)
        return tmp_path

    def load(self, folder):
        return MODELS["lightgcn"].from_pretrained(folder)

    def test_no_folder(self, tmp_path):
        with pytest.raises(RunError, match="is not a RUN folder"):
            self.load(tmp_path / "nothing")

    def test_no_weights(self, folder):
        (folder / "model.safetensors").unlink()
        with pytest.raises(RunError, match=r"has no model\.safetensors"):
            self.load(folder)

    def test_cut_off_weights(self, folder):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(RunError, match=r"is not the file that config\.yaml belongs to"):
            self.load(folder)
        reseal(folder)
        with pytest.raises(RunError, match="does not hold the weights"):
            self.load(folder)

    def test_a_tensor_is_missing(self, folder):
        path = folder / "model.safetensors"
        tensors = load_file(path)
        tensors.pop("net.embedding.weight")
        save_file(tensors, path, {"num_items": "9"})
        reseal(folder)
        with pytest.raises(RunError, match="does not hold the weights"):
            self.load(folder)

    def test_settings_of_another_kind(self, folder):
        path = folder / "config.yaml"
        path.write_text(path.read_text().replace("num_layers", "num_leyers"))
        with pytest.raises(RunError, match="has no setting 'num_leyers'"):
            self.load(folder)

    def test_an_unknown_model(self, folder):
        path = folder / "config.yaml"
        path.write_text(path.read_text().replace("LightGCN", "HeavyGCN"))
        with pytest.raises(RunError, match="no model 'HeavyGCN'; there are"):
            self.load(folder)

    def test_the_folder_holds_another_model(self, folder):
        with pytest.raises(RunError, match="holds a LightGCN, not a FREEDOM"):
            MODELS["freedom"].from_pretrained(folder)

    def test_yaml_with_code(self, folder):
        (folder / "config.yaml").write_text("!!python/object/apply:os.system ['true']")
        with pytest.raises(RunError, match="not readable YAML"):
            self.load(folder)


@every_model
def test_a_training_user_and_the_same_history_get_the_same_items(model_class):
    # With a full basis all unseen items would score zero up to rounding.
    model = make(
        model_class, **({"hidden_channels": 4} if model_class.__name__ == "PureSVD" else {})
    )
    users = torch.tensor([3, 0, 11])
    lists = [model.graph.rows(user[None]).item.tolist() for user in users]
    if not model.folds_in:
        with pytest.raises(ConfigError, match="knows only the users it was trained on"):
            model.recommend(history_index=lists)
        return
    expected_items, expected_scores = model.recommend(users, k=4)
    items, scores = model.recommend(history_index=[one[::-1] + one[:1] for one in lists], k=4)
    assert torch.equal(items, expected_items)
    torch.testing.assert_close(scores, expected_scores)
    alone, _ = model.recommend(history_index=lists[1], k=4)
    assert torch.equal(alone, expected_items[1:2])
    nobody, scores = model.recommend(history_index=[[], lists[0]], k=4)
    assert scores.isfinite().all()
    assert torch.equal(nobody[1], expected_items[0])


@every_model
def test_only_candidates_are_recommended(model_class):
    model = make(model_class)
    items, _ = model.recommend([0, 1], k=9, exclude_seen=False, candidate_index=[2, 5, 7])
    assert items.sort(dim=1).values.tolist() == [[-1] * 6 + [2, 5, 7]] * 2
    mask = torch.zeros(9, dtype=torch.bool)
    mask[[2, 5, 7]] = True
    again, _ = model.recommend([0, 1], k=9, exclude_seen=False, candidate_index=mask)
    assert torch.equal(again, items)
    with pytest.raises(ConfigError, match="item index 9 is out of range"):
        model.recommend(0, candidate_index=[9], k=1)


def test_exactly_one_kind_of_user_is_given():
    model = make(MODELS["ld4mrec"])
    with pytest.raises(ConfigError, match="exactly one of user_index, user_id, history"):
        model.recommend(k=3)
    with pytest.raises(ConfigError, match="exactly one of user_index, user_id, history"):
        model.recommend(0, k=3, history_index=[1])
    with pytest.raises(ConfigError, match="item index 9 is out of range"):
        model.recommend(history_index=[1, 9], k=3)


def test_a_history_of_raw_ids():
    model = make(MODELS["ld4mrec"])
    model.catalogue.item_ids = [f"film-{n}" for n in range(9)]
    expected, _ = model.recommend(history_index=[2, 5], k=3)
    assert torch.equal(model.recommend(history=["film-5", "film-2"], k=3)[0], expected)
    with pytest.raises(DataError, match="no item 'film-99'"):
        model.recommend(history=["film-99"], k=3)


@pytest.mark.parametrize("name", ["ld4mrec", "lightgcn"])
def test_similar_items_have_the_largest_cosines(name):
    model = make(MODELS[name])
    table = torch.nn.functional.normalize(model.tables().item, dim=1).detach()
    cosine = table[[4, 1]] @ table.t()
    cosine[[0, 1], [4, 1]] = -torch.inf
    items, found = model.similar_items([4, 1], k=3)
    torch.testing.assert_close(found, cosine.topk(3).values)
    assert torch.equal(items, cosine.topk(3).indices)
    assert torch.equal(model.similar_items(4, k=3)[0], items[:1])
    model.remove_items(items[0, :1])
    assert items[0, 0] not in model.similar_items(4, k=9)[0]
    assert model.similar_items(4, k=9)[0][0, -2:].tolist() == [-1, -1]
    with pytest.raises(ConfigError, match="item index 9 is out of range"):
        model.similar_items(9)


def test_models_without_item_vectors_have_no_similar_items():
    with pytest.raises(ConfigError, match="EASE does not score by inner products"):
        make(MODELS["ease"]).similar_items(0, k=2)


@every_model
def test_item_graphs_are_built_only_where_they_are_used(model_class, monkeypatch):
    model = make(model_class)
    read = set()
    similar = RecGraph.similar
    monkeypatch.setattr(
        RecGraph, "similar", lambda self, name: read.add(name) or similar(self, name)
    )
    if model_class.batch_over != "nothing":
        generator = torch.Generator().manual_seed(0)
        model.start_epoch(generator)
        model.loss(torch.arange(6), generator)
    model.recommend(0, k=3)
    built = [name for name in model.graph.state_dict() if name.startswith("similar_")]
    assert bool(built) == bool(read)
    assert model.graph.modalities == (["image", "text"] if model_class.uses_content else [])


def test_recommendations_as_a_frame():
    data = random_data(num_users=12, num_items=9)
    data["item"].raw_id = list("abcdefghi")
    data["user"].raw_id = [f"u{n}" for n in range(12)]
    data["item"].title = [f"Title {n}" for n in range(9)]
    model = make_model(EASE, data)
    frame = model.recommend_frame(["u3", "u0"], k=3)
    item, score = model.recommend([3, 0], k=3)
    assert list(frame.columns) == ["user", "item", "title", "rank", "score"]
    assert frame["user"].tolist() == ["u3"] * 3 + ["u0"] * 3
    assert frame["item"].tolist() == ["abcdefghi"[n] for n in item.flatten().tolist()]
    assert frame["title"].tolist() == [f"Title {n}" for n in item.flatten().tolist()]
    assert frame["rank"].tolist() == [1, 2, 3] * 2
    assert frame["score"].tolist() == score.flatten().tolist()
    assert "<table" in frame._repr_html_()
    by_name = model.recommend_frame(histories={"ann": ["a", "b"], "bob": ["c"]}, k=2)
    assert by_name["user"].tolist() == ["ann", "ann", "bob", "bob"]
    by_place = model.recommend_frame(histories=[["a", "b"], ["c"]], k=2)
    assert by_place["user"].tolist() == [0, 0, 1, 1]
    assert by_place["item"].tolist() == by_name["item"].tolist()
    few = model.recommend_frame("u0", k=9, candidates=["a", "b"])
    assert set(few["item"]) <= {"a", "b"}
    model.catalogue.details = ItemDetails(9)
    assert "title" not in model.recommend_frame("u0", k=2)
    for wrong in ({}, {"users": ["u0"], "histories": [["a"]]}, {"histories": {}}):
        with pytest.raises(ConfigError, match="give"):
            model.recommend_frame(**wrong)
