"""Use the schedule and a denoiser without a recommender: diffuse rows and denoise them."""

import torch

from graphdiff.nn import Denoiser, DiffusionSchedule

generator = torch.Generator().manual_seed(0)
# Rows of 12 items; a user likes either the first or the last six of them.
group = torch.randint(2, (512,), generator=generator)
likes = torch.rand(512, 12, generator=generator) < 0.8
rows = (likes & (torch.arange(12).div(6, rounding_mode="floor") == group[:, None])).float()

schedule = DiffusionSchedule.linear(num_steps=20, noise_scale=0.9, noise_min=0.05)
denoiser = Denoiser(channels=12, hidden=[32])
optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
for _ in range(300):
    t = torch.randint(1, schedule.num_steps + 1, (len(rows),), generator=generator)
    noise = torch.randn(rows.shape, generator=generator)
    x_t = schedule.add_noise(rows, noise, t)
    loss = torch.nn.functional.mse_loss(denoiser(x_t, t), rows)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"mean squared error {loss.item():.3f}")

# Walk the reverse chain from noise: x_{t-1} is computed from the prediction of x_0 and from x_t.
x = torch.randn(4, 12, generator=generator)
with torch.no_grad():
    for step in range(schedule.num_steps, 0, -1):
        t = torch.full((len(x),), step)
        x = schedule.step(denoiser(x, t), x, t)
print(x.round(decimals=1))
