"""GiffCF: diffusion of interaction rows by smoothing on the item graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from scipy.sparse import csr_matrix
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.item_graph import scaled_interactions
from graphdiff.graph.propagation import csr_tensor
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Query, Recommender, Tables
from graphdiff.nn.denoiser import timestep_embedding
from graphdiff.nn.dropout import dropout
from graphdiff.nn.spectral import right_singular_vectors

TIME_CHANNELS, MIXER_CHANNELS, SHARPNESS = 20, 2, 4.0


class GiffCFConfig(ModelConfig):
    """Settings of :class:`GiffCF`; the defaults are its public code's for ``ml-1m-clean``."""

    hidden_channels: int = Field(200, ge=1, description="Width d of the item table.")
    batch_size: int = Field(100, ge=1, description="Users per training step.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of the condition's items dropped.")
    num_steps: int = Field(3, ge=1, description="Diffusion steps T.")
    smoothing: float = Field(1.5, ge=0, description="α: amount of smoothing at step T.")
    ideal_weight: float = Field(0.0, ge=0, description="Weight of the ideal low-pass filter.")
    ideal_rank: int = Field(200, ge=1, description="Frequencies that the ideal filter keeps.")
    noise_scale: float = Field(
        0.0, ge=0, description="Standard deviation of the Gaussian noise at step T."
    )
    noise_decay: float = Field(
        0.5, ge=0, le=1, description="Factor by which noise decreases with each step towards 0."
    )


class ItemFilter(NamedTuple):
    """The smoothing filter of the item graph.

    Attributes:
        interactions: :math:`D_U^{-1/4} X D_I^{-1/2}`, sparse CSR float32 ``[U, I]``.
        transposed: The same transposed, sparse CSR ``[I, U]``.
        scale: Its largest squared singular value, a scalar.
        directions: Its leading right singular vectors, ``[I, K]``.
    """

    interactions: Tensor
    transposed: Tensor
    scale: Tensor
    directions: Tensor


class Mixer(torch.nn.Module):
    r"""A network with two hidden units, applied to each entry of several tensors.

    It starts as a leaky rectifier of the sum of all inputs but the last, the time:
    :math:`(\mathrm{SiLU}(4x) - \ell\, \mathrm{SiLU}(-4x)) / 4` is close to x where x is positive
    and to ℓx where it is negative. That is ours: from Glorot's draw of so few weights, many seeds
    never leave a poor optimum. A sum (ℓ = 1) leaves it as well, but needs twice the epochs.

    Args:
        num_inputs: Number of tensors.
        slope: ℓ.
    """

    def __init__(self, num_inputs: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.hidden = torch.nn.Linear(num_inputs, MIXER_CHANNELS)
        self.out = torch.nn.Linear(MIXER_CHANNELS, 1)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the weights so that the output is the rectified sum of all inputs but the last."""
        sharpness = torch.tensor([SHARPNESS, -SHARPNESS])
        self.hidden.weight.copy_(sharpness.unsqueeze(1).expand_as(self.hidden.weight))
        self.hidden.weight[:, -1] = 0
        self.out.weight.copy_((torch.tensor([1.0, self.slope]) / sharpness).unsqueeze(0))
        torch.nn.init.zeros_(self.hidden.bias)
        torch.nn.init.zeros_(self.out.bias)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Mix tensors that broadcast to one shape, to a tensor of that shape."""
        mixed: Tensor = self.out.bias
        # Unit by unit: stacking the inputs would take several times their memory.
        for unit in range(MIXER_CHANNELS):
            total: Tensor = self.hidden.bias[unit]
            for weight, x in zip(self.hidden.weight[unit], inputs, strict=True):
                total = total + weight * x
            mixed = mixed + self.out.weight[0, unit] * F.silu(total)
        return mixed


class TimeValue(torch.nn.Module):
    """A learned scalar function of the diffusion step."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(TIME_CHANNELS, TIME_CHANNELS)
        self.out = torch.nn.Linear(TIME_CHANNELS, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights by Glorot's rule and set the biases to zero."""
        _reset_linear(self.hidden, self.out)

    def forward(self, t: Tensor) -> Tensor:
        """Map steps, long ``[B]``, to values ``[B, 1]``."""
        time = timestep_embedding(t, TIME_CHANNELS).to(self.out.weight.dtype)
        return self.out(F.silu(self.hidden(time)))


class GiffCF(Recommender):
    r"""The GiffCF model from `"Graph Signal Diffusion Model for Collaborative Filtering"
    <https://arxiv.org/abs/2311.08744>`_.

    The forward process smooths a row on the item graph instead of adding noise, as the heat
    equation does: with :math:`\tilde{X} = D_U^{-1/4} X D_I^{-1/2}`,
    :math:`A = \tilde{X}^\top \tilde{X} / \lVert\tilde{X}\rVert_2^2` and T steps,

    .. math::
        \mathbf{z}_t = \mathbf{x} + \alpha \tfrac{t}{T} (A\mathbf{x} - \mathbf{x}).

    The denoiser predicts the row from :math:`\mathbf{z}_t` and a condition :math:`\mathbf{c}`, the
    row with dropout. Encoder and decoder are one item table E:

    .. math::
        \mathbf{h} &= \mathrm{mix}_1\big(\mathbf{z}_t E / I,\; \mathbf{c} E / \max(1,
        \lVert\mathbf{c}\rVert_1),\; \tau_1(t)\big), \\
        \hat{\mathbf{x}} &= \mathrm{mix}_2\big(\mathbf{h} E^\top,\; \mathbf{c},\; A\mathbf{c},\;
        \tau_2(t)\big),

    where the mixers are networks with two hidden units that are applied to each entry. The loss is
    :math:`\lVert \mathbf{x} - \hat{\mathbf{x}} \rVert^2`.

    *Inference.* The chain starts from the smoothed observed row. Each step predicts
    :math:`\hat{\mathbf{x}}` and moves to :math:`\hat{\mathbf{z}}_{t-1} + \sigma (\mathbf{z}_t -
    \hat{\mathbf{z}}_t)`, where :math:`\hat{\mathbf{z}}` is the smoothed prediction and σ the decay
    of noise. The paper's optional ideal low-pass filter and Gaussian noise are implemented and off
    by default, as in its code for MovieLens.

    Rows are dense ``[B, I]``, as in the paper, and scores are no inner products.

    Args:
        config: :class:`GiffCFConfig`.
        graph: Training interactions.
    """

    Config: ClassVar[type[ModelConfig]] = GiffCFConfig
    batch_over: ClassVar[Literal["users", "interactions", "nothing"]] = "users"
    folds_in: ClassVar[bool] = True
    config: GiffCFConfig

    def __init__(self, config: GiffCFConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self.table = torch.nn.Parameter(torch.empty(graph.num_items, config.hidden_channels))
        self.embedding_mixer, self.score_mixer = Mixer(3, slope=1.0), Mixer(4, slope=0.1)
        self.embedding_time, self.score_time = TimeValue(), TimeValue()
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
        return {
            "hidden_channels": [64, 200],
            "lr": [3e-4, 1e-3],
            "dropout": [0.3, 0.5, 0.7],
            "smoothing": [1.0, 1.5],
            "ideal_weight": [0.0, 0.1, 0.2],
            "noise_decay": [0.1, 0.5, 1.0],
        }

    def reset_parameters(self) -> None:
        """Draw the item table and the networks by Glorot's rule."""
        torch.nn.init.xavier_uniform_(self.table)
        for part in (
            self.embedding_mixer,
            self.score_mixer,
            self.embedding_time,
            self.score_time,
        ):
            part.reset_parameters()

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean squared error of the predicted rows; ``batch`` is long ``[B]``, user
        indices."""
        config = self.config
        x = self.graph.rows(batch).dense(self.num_items).to(self.table.dtype)
        high = config.num_steps + 1
        t = torch.randint(1, high, batch.shape, generator=generator, device=self.device)
        z_t = self._diffuse(x, self.smooth(x), t)
        if config.noise_scale:
            noise = torch.randn(x.shape, generator=generator, device=self.device).to(x.dtype)
            scale = config.noise_scale * config.noise_decay ** (config.num_steps - t)
            z_t = z_t + scale.to(x.dtype).unsqueeze(1) * noise
        condition = dropout(x, config.dropout, generator)
        predicted = self.denoise(z_t, condition, self.smooth(condition), t)
        return (x - predicted).square().sum(dim=1).mean()

    def denoise(self, z_t: Tensor, condition: Tensor, smoothed: Tensor, t: Tensor) -> Tensor:
        """Predict rows.

        Args:
            z_t: Diffused rows, ``[B, I]``.
            condition: c, ``[B, I]``.
            smoothed: Ac, ``[B, I]``.
            t: Steps, long ``[B]``.

        Returns:
            ``[B, I]``.
        """
        length = condition.abs().sum(dim=1, keepdim=True).clamp(min=1)
        hidden = self.embedding_mixer(
            (z_t / self.num_items) @ self.table,
            (condition / length) @ self.table,
            self.embedding_time(t),
        )
        return self.score_mixer(hidden @ self.table.t(), condition, smoothed, self.score_time(t))

    def smooth(self, x: Tensor) -> Tensor:
        """Apply the filter A, with the ideal filter if it has a weight, to rows ``[B, I]``."""
        weight = self.config.ideal_weight
        item_filter = self.graph.cached(item_filter_of, self.config.ideal_rank if weight else 1)
        # Sparse products are implemented in float32 and float64 only.
        columns = x.t().to(item_filter.interactions.dtype)
        with torch.autocast(self.device.type, enabled=False):
            smoothed = item_filter.transposed @ (item_filter.interactions @ columns)
        smoothed = (smoothed / item_filter.scale).t().to(x.dtype)
        if not weight:
            return smoothed
        directions = item_filter.directions.to(x.dtype)
        return (smoothed + weight * (x @ directions) @ directions.t()) / (1 + weight)

    def _diffuse(self, x: Tensor, smoothed: Tensor, t: Tensor) -> Tensor:
        """Return z_t of rows ``[B, I]`` at steps, long ``[B]``."""
        amount = (self.config.smoothing * t.to(x.dtype) / self.config.num_steps).unsqueeze(1)
        return x + amount * (smoothed - x)

    def tables(self) -> Tables:
        """Return the item table."""
        return Tables(item=self.table)

    def scorer(
        self, query: Query, tables: Tables, num_steps: int | None = None, **options: Any
    ) -> Callable[[int, int], Tensor]:
        """Return a function that returns the scores of one block of items.

        Args:
            query: The users.
            tables: The result of :meth:`tables`.
            num_steps: Last steps of the chain to run, 1 … T; all T by default. The chain starts
                from the row smoothed as at that step.
            **options: None.

        Raises:
            ConfigError: If ``num_steps`` is out of range.
        """
        most = self.config.num_steps
        num_steps = most if num_steps is None else num_steps
        if not 1 <= num_steps <= most:
            raise ConfigError(f"num_steps is {num_steps}; give 1 to {most}")
        score = self._chain(query.rows.dense(self.num_items).to(self.table.dtype), num_steps)
        return lambda start, stop: score[:, start:stop]

    def _chain(self, x: Tensor, num_steps: int) -> Tensor:
        """Return the rows ``[B, I]`` at the end of the chain that starts at a step."""
        smoothed, decay = self.smooth(x), self.config.noise_decay
        t = torch.full((x.size(0),), num_steps, device=x.device)
        z_t = self._diffuse(x, smoothed, t)
        for _ in range(num_steps):
            predicted = self.denoise(z_t, x, smoothed, t)
            smoothed_prediction = self.smooth(predicted)
            error = z_t - self._diffuse(predicted, smoothed_prediction, t)
            t = t - 1
            z_t = self._diffuse(predicted, smoothed_prediction, t) + decay * error
        return z_t


def item_filter_of(graph: RecGraph, rank: int) -> ItemFilter:
    """Return the filter of a graph with ``rank`` singular vectors."""
    matrix = scaled_interactions(graph)
    directions = right_singular_vectors(matrix, min(rank, *matrix.shape))
    largest = matrix @ directions[:, 0].double().numpy()
    device = graph.col.device
    return ItemFilter(
        _sparse(matrix, device),
        _sparse(matrix.T.tocsr(), device),
        torch.tensor(float(largest @ largest), device=device),
        directions.to(device),
    )


def _sparse(matrix: csr_matrix, device: torch.device) -> Tensor:
    rowptr, col, value = map(torch.from_numpy, (matrix.indptr, matrix.indices, matrix.data))
    return csr_tensor(rowptr, col, value.float(), matrix.shape).to(device)


def _reset_linear(*layers: torch.nn.Linear) -> None:
    for layer in layers:
        torch.nn.init.xavier_uniform_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
