"""Training by several processes that each hold a part of the items."""

import pytest
import torch
import torch.distributed as dist
from sockets import received_bytes

from graphdiff import LD4MRec, LightGCN, fit
from graphdiff.distributed.processes import own_part, rank
from graphdiff.errors import ConfigError
from graphdiff.graph import RecGraph
from graphdiff.graph.item_shard import ItemShard
from graphdiff.models.ld4mrec.sharded import ITEM_ROWS, shard
from tests.conftest import make_model, random_data
from tests.distributed.group import run_group
from tests.distributed.training import fit_exactly, history, learned

VARIANTS = {
    "propagated in every step": {
        "gated": True,
        "diffusion.importance_sampling": True,
        "objective.soft_probability": 0.5,
        "objective.visible_weight": 0.3,
    },
    "propagated at times": {
        "propagation.every": 2,
        "propagation.num_item_layers": 2,
        "objective.num_negatives": 2,
    },
    "not propagated": {
        "propagation.num_layers": 0,
        "propagation.num_item_layers": 0,
        "diffusion.process": "masking",
    },
}
# Processes that divide the items validate without vectors and a bias of cold items.
ALIKE = {
    "linear_path.enabled": False,
    "cold_items.exposure": 0.0,
    "cold_items.neighbor_weight": 0.0,
}
CHANNELS, HEADS, RANK, ROWS = 128, 2, 5, 40


def data():
    graph = random_data(41, 31, {"image": 6, "text": 4})
    graph["item"].has_image[3] = False
    graph["item"].x_image[3] = 0
    return graph


def train(variant, shard_items, out=None, epochs=3, **arguments):
    graph = data()
    settings = {"hidden_channels": 8, "num_heads": 2, "batch_size": 20, "lr": 0.01} | ALIKE
    model = LD4MRec.from_data(graph, **settings, **VARIANTS[variant])
    devices = 2 if shard_items else 1
    result = fit_exactly(
        model, graph, epochs=epochs, out=out, devices=devices, shard_items=shard_items, **arguments
    )
    return learned(model), history(result)


def in_group(folder):
    for number, variant in enumerate(VARIANTS):
        found = train(variant, shard_items=True, out=folder / f"run-{number}")
        if rank() == 0:
            torch.save(found, folder / f"{number}.pt")
    resumed = train("propagated at times", True, folder / "begun", epochs=4, resume=True)
    if rank() == 0:
        torch.save(resumed, folder / "resumed.pt")
    torch.save(exchanged(), folder / f"exchanged-{rank()}.pt")


def received_when_all_are_here():
    dist.barrier()
    received = received_bytes()
    dist.barrier()
    return received


def exchanged():
    """Measure one training step without propagation."""
    graph = random_data(41, 40, {"image": 6})
    settings = {"propagation.every": 100, "content_rank": RANK, "num_heads": HEADS}
    settings["linear_path.enabled"] = False
    model = make_model(LD4MRec, graph, hidden_channels=CHANNELS, **settings)
    generator = torch.Generator().manual_seed(0)
    own = shard(model, generator)
    batch, steps = torch.arange(ROWS), []
    for _ in range(3):
        before = received_when_all_are_here()
        own.loss(batch, generator).backward()
        after = received_when_all_are_here()
        steps.append(None if before is None else after - before)
    held = {name: x.numel() for name, x in own.state_dict().items()}
    whole = {name: x.numel() for name, x in model.state_dict().items()}
    return steps, held, whole


def close(found, expected, tolerance=1e-9):
    (state, history), (whole, rows) = found, expected
    assert state.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(
            state[name],
            value,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda m, name=name: f"{name}: {m}",
        )
    assert history == [pytest.approx(row, rel=tolerance) for row in rows]


def test_sharded_items_train_what_whole_ones_do(tmp_path):
    train("propagated at times", False, tmp_path / "begun", epochs=2)
    run_group(in_group, tmp_path)
    for number, variant in enumerate(VARIANTS):
        expected = train(variant, shard_items=False)
        close(torch.load(tmp_path / f"{number}.pt"), expected)
        # The RUN folder holds a whole model.
        again = LD4MRec.from_pretrained(tmp_path / f"run-{number}").state_dict()
        for name, value in expected[0].items():
            torch.testing.assert_close(again[name], value, rtol=1e-9, atol=1e-9)

    # A training goes on with and without shards.
    expected = train("propagated at times", False, epochs=4)
    # Adam magnifies the rounding of gradients that vanish, by up to 1e8 in a step.
    close(torch.load(tmp_path / "resumed.pt"), expected, tolerance=1e-6)
    resumed = train("propagated at times", False, tmp_path / "run-1", epochs=4, resume=True)
    close(resumed, expected, tolerance=1e-6)

    for process in range(2):
        received, held, whole = torch.load(tmp_path / f"exchanged-{process}.pt")
        for name in {*ITEM_ROWS, "graph.x_image"} & set(held):
            assert 2 * held[name] == whole[name]
        assert held["graph.col"] < 0.7 * whole["graph.col"]
        # As docs/distributed.md says, in float32; of two processes each sends every value once.
        forward = ROWS * 3 * CHANNELS + CHANNELS**2 // HEADS + 2 * CHANNELS + 1 + 4 * HEADS * ROWS
        backward = 2 * ROWS * CHANNELS + 1 + RANK * CHANNELS
        # The first step propagates.
        if received[0] is not None:
            # Beside these, eight exchanges have headers of half a KiB each.
            assert received[1:] == pytest.approx(2 * [4 * (forward + backward)], rel=0.05)


def test_a_shard_knows_its_place():
    graph = RecGraph.from_data(data())
    users = torch.tensor([7, 0, 30])
    rows, _ = graph.located_rows(users)
    for part in (slice(0, 15), slice(15, 31)):
        shared = ItemShard(graph, part).shared_rows(users)
        assert torch.equal(shared.row, rows.row)
        assert torch.equal(shared.own.item + part.start, rows.item[shared.place])
        assert torch.equal(shared.own.row, rows.row[shared.place])


def test_other_models_are_refused():
    graph = data()
    settings = {"diffusion.process": "heat", "linear_path.enabled": False}
    model = make_model(LD4MRec, graph, **settings)
    with pytest.raises(ConfigError, match="cannot be divided with the diffusion process"):
        shard(model, torch.Generator())
    model = make_model(LD4MRec, graph, **{"linear_path.enabled": True})
    with pytest.raises(ConfigError, match=r"give linear_path\.enabled=false"):
        shard(model, torch.Generator())
    graph["user", "interacts", "item"].time = torch.arange(
        graph["user", "interacts", "item"].edge_index.size(1)
    )
    model = make_model(LD4MRec, graph, **{"linear_path.enabled": False})
    with pytest.raises(ConfigError, match="give recency=0"):
        shard(model, torch.Generator())
    with pytest.raises(ConfigError, match="items of LightGCN cannot be divided"):
        fit(LightGCN.from_data(graph), graph, shard_items=True, progress=False)


def test_one_process_holds_all_items():
    close(train("not propagated", shard_items=False), train_alone())
    assert own_part(31) == slice(0, 31)


def test_the_whole_model_has_a_bias_of_cold_items():
    # Cold items are placed by item-item graphs, which a model without item layers lacks.
    state, _ = train_alone(exposure=1.0, variant="propagated at times")
    assert state["cold_items.chosen"]


def train_alone(exposure=0.0, variant="not propagated"):
    graph = data()
    settings = {"hidden_channels": 8, "num_heads": 2, "batch_size": 20, "lr": 0.01} | ALIKE
    settings["cold_items.exposure"] = exposure
    model = LD4MRec.from_data(graph, **settings, **VARIANTS[variant])
    result = fit_exactly(model, graph, epochs=3, shard_items=True)
    return learned(model), history(result)
