"""What the reverse chain is worth beside one pass, on the embedded data."""

import pytest

from graphdiff import LD4MRec, fit
from graphdiff.datasets import SyntheticMultimedia
from graphdiff.evaluation.ranking import rank

SETTINGS = {"hidden_channels": 32, "num_heads": 2, "objective.num_negatives": 256}


@pytest.mark.parametrize(
    "diffusion",
    [{}, {"noise_scale": 0.9}, {"process": "masking"}, {"process": "masking+heat"}],
    ids=str,
)
def test_a_few_passes_from_the_noisy_end_are_as_good_as_one_on_the_observed_row(diffusion):
    data = SyntheticMultimedia(seed=0)[0]
    model = LD4MRec.from_data(data, diffusion=diffusion, **SETTINGS)
    fit(model, data, epochs=25, eval_every=5, seed=0, progress=False, accelerator="cpu")

    def recall(num_steps):
        ranking = rank(model, data, "val", (20,), recommend={"num_steps": num_steps})
        return ranking.mean()["recall@20"]

    one_pass, noisy = recall(0), recall(1)
    for num_steps in (2, 5, 20):
        assert recall(num_steps) >= 0.95 * one_pass
    if "noise_scale" in diffusion or diffusion.get("process") == "masking":
        # A pass on the corrupted row alone is worse: the chain buys quality with time.
        assert noisy < recall(5)
