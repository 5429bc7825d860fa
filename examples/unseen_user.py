"""Serve a user who was not in the training data, by their history alone."""

from graphdiff import LD4MRec, fit
from graphdiff.datasets import SyntheticMultimedia

data = SyntheticMultimedia(num_users=300, num_items=120, seed=0)[0]
model = LD4MRec.from_data(data, hidden_channels=64)
fit(model, data, epochs=10, progress=False)

# Nothing is trained again. Only items of the chosen category may be recommended.
food = [n for n, category in enumerate(data["item"].category) if category == "Food"]
print(
    model.recommend_frame(
        histories={"ann": [3, 14, 15], "bob": [92, 6]}, k=3, candidate_index=food
    ).to_string(index=False)
)

best = int(model.recommend(history=[3, 14, 15], k=1)[0])
why = model.explain(best, history=[3, 14, 15])
print(f"{data['item'].title[best]}: score {why.score:.3f}, the sum of")
for name, value in why.parts.items():
    print(f"  {name:20} {value:+.3f}")
