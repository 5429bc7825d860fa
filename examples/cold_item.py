"""Add an item that nobody has interacted with: its features are enough."""

import torch

from graphdiff import LD4MRec, fit
from graphdiff.datasets import SyntheticMultimedia

data = SyntheticMultimedia(num_users=300, num_items=120, seed=0)[0]
model = LD4MRec.from_data(data, hidden_channels=64)
fit(model, data, epochs=10, progress=False)

# The new item looks like item 3. It has no text and no audio: modalities may be missing.
picture = data["item"].x_image[[3]] + 0.01 * torch.randn(1, data["item"].x_image.size(1))
(new,) = model.add_items({"image": picture}).tolist()
print(f"the new item has index {new}, {model.num_items} items are known")

similar, cosine = model.similar_items(new, k=5)
print("similar items:", [data["item"].title[n] for n in similar[0].tolist()])

item, _ = model.recommend(range(300), k=20)
print(f"it is recommended to {int((item == new).any(dim=1).sum())} of 300 users")

model.remove_items([new])  # never recommended again
