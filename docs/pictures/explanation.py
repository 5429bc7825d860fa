"""Write explanation.svg and explanation-graph.svg: why a model that was trained on the synthetic
dataset recommends an item to a user."""

from pathlib import Path

from graphdiff import LD4MRec, fit
from graphdiff.datasets import SyntheticMultimedia

USER = 8

data = SyntheticMultimedia(seed=0)[0]
model = LD4MRec.from_data(data, gated=True)
fit(model, data, epochs=25, progress=False, accelerator="cpu")
best = model.recommend(USER, k=1)[0].item()
why = model.explain(best, user_index=USER, num_items=6)
title = model.catalogue.details.title
why.plot(Path(__file__).with_suffix(".svg"), name=title)
why.plot_graph(Path(__file__).with_name("explanation-graph.svg"), name=title)
