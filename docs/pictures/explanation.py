"""Write explanation.svg: why a model recommends an item of the synthetic dataset to a user."""

from pathlib import Path

from graphdiff import LD4MRec, fit
from graphdiff.datasets import SyntheticMultimedia

USER = 7

data = SyntheticMultimedia(seed=0)[0]
model = LD4MRec.from_data(data, gated=True)
fit(model, data, epochs=8, progress=False, accelerator="cpu")
best = model.recommend(USER, k=1)[0].item()
model.explain(best, user_index=USER).plot(Path(__file__).with_suffix(".svg"))
