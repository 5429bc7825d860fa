"""LD4MRec with parts of its user's own: trained, saved, loaded, served and exported."""

import math
import subprocess
import sys

import pytest
import torch
import yaml

from graphdiff import LD4MRec, evaluate, fit
from graphdiff.errors import ConfigError, RunError
from graphdiff.models import LightGCN
from graphdiff.models.ld4mrec.heat import HeatProcess
from graphdiff.nn import CNet, DiffusionSchedule, MaskingProcess, ModalityGate, Part, RowProcess
from graphdiff.serving.export import export
from graphdiff.serving.served import RankingRequest, Served, answer_batch
from tests.conftest import random_data

CHANNELS, HISTORY = 8, [1, 4, 6]


class MixingCNet(Part):
    """A C-Net of one hidden layer, without heads and without an inference form of its own."""

    def __init__(self, channels, width=12, *, dropout=0.2):
        super().__init__()
        self.time = torch.nn.Embedding(100, channels)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(4 * channels, width),
            torch.nn.Tanh(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(width, channels),
        )

    def forward(self, hidden, t, collaborative, preference):
        x = torch.cat([hidden, self.time(t), collaborative, preference], dim=1)
        return hidden + self.net(x)


class FoldedCNet(MixingCNet):
    """The same with an inference form: the time of step 0 is folded into a bias."""

    def freeze(self):
        return Folded(self)


class Folded(torch.nn.Module):
    def __init__(self, cnet):
        super().__init__()
        first, *_, last = cnet.net
        weight = first.weight.detach().chunk(4, dim=1)
        self.weight = torch.nn.Buffer(torch.cat([weight[0], *weight[2:]], dim=1))
        self.bias = torch.nn.Buffer(first.bias.detach() + cnet.time.weight.detach() @ weight[1].t())
        self.last = torch.nn.Linear(*last.weight.t().shape).requires_grad_(False)
        self.last.load_state_dict(last.state_dict())

    def forward(self, hidden, step, collaborative, preference):
        x = torch.cat([hidden, collaborative, preference], dim=1) @ self.weight.t()
        return hidden + self.last((x + self.bias[step]).tanh())


class SquaredSchedule(DiffusionSchedule):
    """Variances that grow with the square of the step."""

    def __init__(self, num_steps, largest=0.5):
        super().__init__([largest * ((n + 1) / num_steps) ** 2 for n in range(num_steps)])


class EvenGate(torch.nn.Module):
    """A gate that is no Part: a weight of each modality, the same for all users."""

    def __init__(self, num_modalities):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(num_modalities))

    def reset_parameters(self):
        torch.nn.init.zeros_(self.weight)

    def forward(self, preference, shares):
        present = preference.any(dim=-1)
        weight = (shares.log() + self.weight).exp() * present
        return weight / weight.sum(dim=-1, keepdim=True).clamp(min=1e-12)


class Shrinking(RowProcess):
    """Rows that get smaller with each step."""

    def __init__(self, num_steps, least=0.2):
        super().__init__(num_steps)
        self.least = least

    def corrupt(self, rows, t, noise):
        share = 1 - (1 - self.least) * t.to(noise.dtype) / self.num_steps
        return share.unsqueeze(-1) * rows.values


def data(features=None):
    return random_data(40, 30, {"image": 6, "text": 5} if features is None else features)


def settings(**parts):
    return {"hidden_channels": CHANNELS, "objective.num_negatives": 16, **parts}


def trained(cls=MixingCNet, features=None):
    parts = {"cnet": cls(CHANNELS, dropout=0.1), "schedule": SquaredSchedule(5, largest=0.4)}
    model = LD4MRec.from_data(data(features), **settings(**parts))
    fit(model, data(features), epochs=2, seed=0, progress=False, accelerator="cpu")
    return model


@pytest.fixture(params=[MixingCNet, FoldedCNet])
def model(request):
    return trained(request.param)


def answers(model):
    items, scores = model.recommend(history_index=[HISTORY, [2]], k=6)
    chain = model.recommend(history_index=HISTORY, k=6, num_steps=5)
    return [items, scores, *chain, model(torch.arange(40))]


def test_given_parts_are_the_models_and_learn(model):
    assert isinstance(model.cnet, MixingCNet)
    assert model.schedule.num_steps == model.config.diffusion.num_steps == 5
    assert model.steps.num_steps == 6
    before = model.cnet.net[0].weight.clone()
    model.reset_parameters()
    assert not torch.equal(model.cnet.net[0].weight, before)
    model.train().loss(torch.arange(40), torch.Generator().manual_seed(0)).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.cnet.net.parameters())


def test_a_seed_gives_the_same_training_with_a_part_that_was_used_before():
    cnet, found = MixingCNet(CHANNELS), []
    for _ in range(2):
        model = LD4MRec.from_data(data(), **settings(cnet=cnet))
        fit(model, data(), epochs=1, seed=3, progress=False, accelerator="cpu")
        found.append(model.eval()(torch.arange(40)).detach())
    assert torch.equal(*found)


def test_saved_parts_are_rebuilt_from_their_arguments(model, tmp_path):
    model.save_pretrained(tmp_path)
    parts = yaml.safe_load((tmp_path / "config.yaml").read_text())["model"]["parts"]
    assert parts == {
        "schedule": {
            "class": f"{__name__}.SquaredSchedule",
            "arguments": {"num_steps": 5, "largest": 0.4},
        },
        "cnet": {
            "class": f"{__name__}.{type(model.cnet).__name__}",
            "arguments": {"channels": CHANNELS, "dropout": 0.1},
        },
    }
    again = LD4MRec.from_pretrained(tmp_path)
    assert type(again.cnet) is type(model.cnet)
    assert torch.equal(again.schedule.variance, model.schedule.variance)
    for one, other in zip(answers(again), answers(model), strict=True):
        assert torch.equal(one, other)
    assert evaluate(again, data(), "test") == evaluate(model, data(), "test")
    again.save_pretrained(tmp_path / "again")
    assert answers(LD4MRec.from_pretrained(tmp_path / "again"))[0].equal(answers(model)[0])


def test_a_service_answers_as_the_model_does(model, tmp_path):
    model.save_pretrained(tmp_path)
    served = Served.open(tmp_path)
    lists = [HISTORY, [2]]
    rankings = answer_batch([RankingRequest(served, history, k=4) for history in lists])
    for history, ranking in zip(lists, rankings, strict=True):
        items, scores = model.recommend(history_index=history, k=4)
        assert [index for _, index, _ in ranking.items] == items[0].tolist()
        assert [score for _, _, score in ranking.items] == pytest.approx(
            scores[0].tolist(), abs=1e-5
        )
        assert set(ranking.gate) == {"image", "text"}


@pytest.mark.parametrize("features", [{}, {"image": 6, "text": 5}])
@pytest.mark.parametrize("cls", [MixingCNet, FoldedCNet])
def test_an_exported_program_answers_as_the_model_does(cls, features, tmp_path):
    model = trained(cls, features)
    export(model, tmp_path / "model.pt2", "torch", k=6)
    program = torch.export.load(tmp_path / "model.pt2").module()
    found, scores = program(torch.tensor([*HISTORY, 2]), torch.tensor([0, 3]))
    expected, expected_scores = model.recommend(history_index=[HISTORY, [2]], k=6)
    assert torch.equal(found, expected)
    torch.testing.assert_close(scores, expected_scores)


def test_an_onnx_program_answers_as_the_model_does(model, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export(model, tmp_path / "model.onnx", "onnx", k=6)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    asked = {
        "history_index": torch.tensor([*HISTORY, 2]).numpy(),
        "offsets": torch.tensor([0, 3]).numpy(),
    }
    found, scores = session.run(None, asked)
    expected, expected_scores = model.recommend(history_index=[HISTORY, [2]], k=6)
    assert found.tolist() == expected.tolist()
    torch.testing.assert_close(torch.from_numpy(scores), expected_scores, rtol=1e-4, atol=1e-4)


def test_an_inference_form_computes_what_the_training_form_does():
    model = trained(FoldedCNet).eval()
    frozen = model.cnet.freeze()
    x = torch.randn(3, 7, CHANNELS).unbind()
    for step in (0, 5):
        expected = model.cnet(x[0], torch.full((7,), step), *x[1:])
        torch.testing.assert_close(frozen(x[0], step, *x[1:]), expected)


def test_a_part_that_is_no_part_is_given_again(tmp_path):
    gate = EvenGate(2)
    model = LD4MRec.from_data(data(), **settings(gate=gate))
    fit(model, data(), epochs=2, seed=0, progress=False, accelerator="cpu")
    assert gate.weight.any()
    share = model.modality_preference(history_index=HISTORY)
    assert sum(share.values()).item() == pytest.approx(1)
    model.save_pretrained(tmp_path)
    with pytest.raises(RunError, match=r"part gate: .*EvenGate cannot be rebuilt.*gate=\.\.\."):
        LD4MRec.from_pretrained(tmp_path)
    again = LD4MRec.from_pretrained(tmp_path, gate=EvenGate(2))
    assert torch.equal(again.gate.weight, gate.weight)
    assert torch.equal(again(torch.arange(40)), model(torch.arange(40)))
    with pytest.raises(RunError, match=r"does not hold the weights"):
        LD4MRec.from_pretrained(tmp_path, gate=ModalityGate(2, CHANNELS))


def test_built_in_parts_can_be_given_and_change_nothing():
    plain = LD4MRec.from_data(data(), **settings())
    given = LD4MRec.from_data(
        data(),
        **settings(
            cnet=CNet(CHANNELS, 4, 1, 20),
            schedule=DiffusionSchedule.linear(),
            gate=ModalityGate(2, CHANNELS).requires_grad_(False),
        ),
    )
    found = []
    for model in (plain, given):
        fit(model, data(), epochs=1, seed=0, progress=False, accelerator="cpu")
        found.append(model(torch.arange(40)))
    assert torch.equal(*found)


def test_a_process_of_ones_own_is_trained_saved_and_walked_back(tmp_path):
    model = LD4MRec.from_data(data(), **settings(process=Shrinking(6)))
    assert model.config.diffusion.num_steps == model.steps.num_steps - 1 == 6
    fit(model, data(), epochs=2, seed=0, progress=False, accelerator="cpu")
    model.save_pretrained(tmp_path)
    again = LD4MRec.from_pretrained(tmp_path)
    assert isinstance(again.process, Shrinking)
    for num_steps in (0, 3):
        found = again.recommend([1, 2], k=5, num_steps=num_steps)
        assert torch.equal(found[1], model.recommend([1, 2], k=5, num_steps=num_steps)[1])


@pytest.mark.parametrize(
    ("diffusion", "process"),
    [({"process": "masking"}, MaskingProcess(20, 0.5)), ({"process": "heat"}, HeatProcess(20))],
)
def test_the_process_of_the_settings_can_be_given(diffusion, process):
    found = []
    for parts in ({"diffusion": diffusion}, {"process": process}):
        model = LD4MRec.from_data(data(), **settings(**parts))
        fit(model, data(), epochs=1, seed=0, progress=False, accelerator="cpu")
        found.append(model(torch.arange(40)))
    assert torch.equal(*found)


def test_the_control_of_a_process_has_its_budget_without_its_idea():
    def process(**diffusion):
        model = LD4MRec.from_data(data(), **settings(diffusion=diffusion))
        return model.config.diffusion

    assert process(process="flipping").control() == {"process": "masking"}
    for name in ("gaussian", "masking", "heat", "content_heat", "masking+heat"):
        assert process(process=name).control() == {"enabled": False}


def test_a_model_whose_class_of_part_is_unknown_names_the_module(tmp_path):
    trained().save_pretrained(tmp_path)
    code = (
        "import sys\n"
        "from graphdiff import LD4MRec\n"
        "try:\n"
        "    LD4MRec.from_pretrained(sys.argv[1])\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
        "assert not any(name.startswith('tests') for name in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("RunError")
    assert f"import {__name__} first" in done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cnet": None}, "described as None"),
        ({"cnet": {"class": f"{__name__}.MixingCNet", "arguments": {"channels": "x"}}}, "made"),
        ({"loss": {"class": f"{__name__}.MixingCNet", "arguments": {}}}, "no part loss; it has"),
        ({"cnet": {"class": f"{__name__}.MixingCNet", "arguments": {"channels": 4}}}, "weights"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(change, message, tmp_path):
    trained().save_pretrained(tmp_path)
    path = tmp_path / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["model"]["parts"] |= change
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(RunError, match=message):
        LD4MRec.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"cnet": "cnet"}, "cnet is a str; give a torch.nn.Module"),
        ({"schedule": torch.nn.Linear(1, 1)}, "Linear without num_steps; it needs num_steps, add"),
        ({"schedule": DiffusionSchedule.linear(7), "diffusion": {"num_steps": 5}}, "has 7 steps"),
        ({"schedule": DiffusionSchedule.linear(7), "diffusion.num_steps": 7}, None),
        ({"nets": MixingCNet(8)}, "no setting 'nets'"),
        ({"process": DiffusionSchedule.linear(7)}, "DiffusionSchedule without visible; it needs"),
        ({"process": RowProcess(7), "diffusion": {"num_steps": 5}}, "the given process has 7"),
        ({"process": RowProcess(7), "schedule": DiffusionSchedule.linear(7)}, "give the schedule"),
        (
            {"schedule": DiffusionSchedule.linear(7), "diffusion": {"process": "heat"}},
            "process=heat adds no Gaussian noise",
        ),
        (
            {"diffusion": {"process": "masking"}, "objective.input_dropout": 0.0},
            "input_dropout, which is 0",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    if message is None:
        assert LD4MRec.from_data(data(), **settings(**parts)).steps.num_steps == 8
    else:
        with pytest.raises(ConfigError, match=message):
            LD4MRec.from_data(data(), **settings(**parts))


def test_models_without_parts_take_none(tmp_path):
    model = LightGCN.from_data(data(), hidden_channels=8)
    model.save_pretrained(tmp_path)
    assert "parts" not in yaml.safe_load((tmp_path / "config.yaml").read_text())["model"]
    with pytest.raises(RunError, match="LightGCN has no part cnet; it has none"):
        LightGCN.from_pretrained(tmp_path, cnet=MixingCNet(8))


def test_training_resumes_with_the_same_parts_alone(tmp_path):
    def start(schedule, **options):
        model = LD4MRec.from_data(data(), **settings(schedule=schedule))
        return fit(
            model, data(), epochs=2, seed=0, progress=False, accelerator="cpu",
            out=tmp_path, **options,
        )  # fmt: skip

    start(SquaredSchedule(5))
    start(SquaredSchedule(5), resume=True)
    with pytest.raises(RunError, match="its part schedule is"):
        start(SquaredSchedule(5, largest=0.1), resume=True)


def test_variances_of_the_schedule_reach_the_rows():
    model = trained()
    assert model.schedule.variance[1:].tolist() == pytest.approx(
        [0.4 * ((n + 1) / 5) ** 2 for n in range(5)]
    )
    assert math.isclose(model.schedule.alpha_bar[-1].item(), 0.6, rel_tol=1e-6)
