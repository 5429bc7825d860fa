"""Explanations as reasons, graphs and figures."""

import networkx as nx
import pytest
import torch

from graphdiff import LD4MRec
from graphdiff.errors import ConfigError
from graphdiff.graph.store import RecGraph
from graphdiff.models.explanation import Contribution, Explanation
from graphdiff.models.links import Link, item_links
from graphdiff.schema import build_data
from tests.conftest import make_model, random_data

PARTS = {"behaviour": 0.5, "features_image": 0.4, "preference_image": -0.1, "collaborative": 0.2}


def example():
    history = [
        Contribution(4, 1.0, PARTS),
        Contribution(0, 0.5, {**PARTS, "features_image": -0.1}),
        Contribution(3, 0.2, PARTS),
        Contribution(6, -0.2, dict.fromkeys(PARTS, -0.05)),
    ]
    links = [
        Link(4, 2, "image", 0.9),
        Link(4, 2, "users", 7.0),
        Link(0, 5, "image", 0.8),
        Link(5, 2, "image", 0.7),
        Link(0, 1, "users", 2.0),
        Link(1, 2, "users", 3.0),
    ]
    parts = {"behaviour": 2.0, "remainder": -0.5}
    return Explanation(2, 1.5, parts, {"bias": -0.5}, {"image": 1.0}, history, 0.5, links)


def test_a_reason_needs_a_connection_and_a_contribution():
    assert example().because(most=9) == [
        (4, ["similar image", "7 users in common"]),
        (0, ["users with similar items"]),  # its images count against the item
        (3, ["related behaviour"]),  # nothing connects it
    ]
    assert [item for item, _ in example().because()] == [4, 0]


def test_the_graph_holds_all_items_and_connections():
    graph = example().to_networkx("ABCDEFG".__getitem__)
    assert isinstance(graph, nx.MultiDiGraph)
    kinds = {"history": {0, 3, 4, 6}, "similar": {5}, "users": {1}, "recommended": {2}}
    for kind, nodes in kinds.items():
        assert {node for node, found in graph.nodes(data="kind") if found == kind} == nodes
    assert graph.nodes[4] == {"kind": "history", "label": "E", "contribution": 1.0}
    assert graph.edges[4, 2, "users"]["weight"] == 7
    assert graph.edges[0, 5, "image"]["weight"] == 0.8
    assert nx.is_directed_acyclic_graph(graph)
    assert nx.descendants(graph, 0) == {1, 2, 5}


def test_links_agree_with_a_search_over_all_items():
    data = random_data(num_users=20, num_items=15, features={"image": 4}, seed=1)
    graph = RecGraph.from_data(data, num_neighbors=3)
    dense = torch.zeros(graph.num_users, graph.num_items)
    dense[graph.user, graph.col] = 1
    common = dense.t() @ dense
    x = torch.nn.functional.normalize(graph.features("image")[0], dim=1)
    (source, target), _ = graph.similar("image")
    near = {(s, t) for s, t in zip(source.tolist(), target.tolist(), strict=True)}
    for item in range(graph.num_items):
        history = [one for one in range(0, 15, 4) if one != item]
        links = item_links(graph, item, history, most_between=99)
        assert len({link[:3] for link in links}) == len(links)
        for link in links:
            if link.relation == "users":
                assert link.weight == common[link.source, link.target] > 0
            else:
                cosine = (x[link.source] @ x[link.target]).item()
                assert link.weight == pytest.approx(cosine, abs=1e-5)
        direct = {(one.source, one.relation) for one in links if one.target == item}
        for past in history:
            assert ((past, "users") in direct) == bool(common[past, item])
            similar = (past, item) in near or (item, past) in near
            assert ((past, "image") in direct) == similar
            if not common[past, item]:
                both = (common[past] > 0) & (common[item] > 0)
                both[[item, *history]] = False
                found = {
                    one.target for one in links if one.source == past and one.relation == "users"
                }
                assert found == set(both.nonzero().flatten().tolist())
        few = item_links(graph, item, history, most_between=1)
        for relation in ("users", "image"):
            between = {one.target for one in few if one.relation == relation} - {item}
            assert len(between) <= 1


def test_an_item_without_users_or_features_has_no_links():
    pairs = torch.tensor([[0, 0, 1], [0, 1, 1]])
    x = torch.tensor([[1.0], [2.0], [torch.nan]])
    graph = RecGraph.from_data(build_data(2, 3, pairs, features={"image": x}))
    assert item_links(graph, 2, [0, 1]) == []
    assert item_links(graph, 0, [0]) == []


def test_a_models_explanation_links_its_history():
    model = make_model(LD4MRec, random_data(num_users=20, features={"image": 6}))
    mine = model.graph.rows(torch.tensor([3])).item.tolist()
    found = model.explain(7, user_index=3)
    assert found.item == 7
    assert found.links == item_links(model.graph, 7, [one.item for one in found.history])
    assert set(found.to_networkx()) >= {7, *mine}


def test_an_explanation_can_be_plotted(tmp_path):
    explanation, names = example(), ["$A$", "B", "C", "D", "E", "F", "G"]
    explanation.plot(tmp_path / "why.svg", name=names.__getitem__)
    drawn = (tmp_path / "why.svg").read_text()
    # Text is drawn as paths, with the text in a comment.
    for text in ("C", "score 1.50", "behaviour", "remainder", "E", "$A$", "others", "-0.50"):
        assert f"<!-- {text}" in drawn
    explanation.plot(tmp_path / "again.svg", name=names.__getitem__)
    assert (tmp_path / "again.svg").read_text() == drawn
    explanation.plot_graph(tmp_path / "graph.svg", name=names.__getitem__)
    drawn = (tmp_path / "graph.svg").read_text()
    for text in (*names, "similar image", "common users"):
        assert f"<!-- {text} -->" in drawn
    nothing = Explanation(0, 0.0, {"remainder": 0.0}, {"bias": 0.0}, {}, [])
    nothing.plot(tmp_path / "little.png")
    nothing.plot_graph(tmp_path / "alone.png")
    for name in ("little.png", "alone.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    for plot in (explanation.plot, explanation.plot_graph):
        with pytest.raises(ConfigError, match="is not the name of a figure"):
            plot(tmp_path / "why.txt")
