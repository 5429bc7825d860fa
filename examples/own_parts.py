"""Build LD4MRec with a noise schedule and a conditional network (C-Net) of your own."""

import torch

from graphdiff import LD4MRec, evaluate, fit
from graphdiff.datasets import SyntheticMultimedia
from graphdiff.nn import DiffusionSchedule, Part


class LinearCNet(Part):
    """A C-Net with one linear layer on the collaborative signal."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(channels, channels)

    def reset_parameters(self):
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, hidden, t, collaborative, preference):
        return hidden + self.linear(collaborative)


data = SyntheticMultimedia(num_users=300, num_items=120, seed=0)[0]
schedule = DiffusionSchedule.from_variances(torch.linspace(0.01, 0.2, 10))
model = LD4MRec.from_data(data, hidden_channels=64, cnet=LinearCNet(64), schedule=schedule)
fit(model, data, epochs=10, progress=False)
print(f"recall@20 on test: {evaluate(model, data)['recall@20']:.3f}")

# A subclass of Part is saved with its arguments and rebuilt when the model is loaded.
model.save_pretrained("linear-cnet")
model = LD4MRec.from_pretrained("linear-cnet")
print(model.cnet)
