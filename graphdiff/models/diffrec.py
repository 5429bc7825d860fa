"""DiffRec: diffusion of interaction rows with a reverse chain at inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Query, Recommender, Tables
from graphdiff.nn.denoiser import Denoiser
from graphdiff.nn.diffusion import DiffusionSchedule, WindowStepSampler
from graphdiff.nn.encoded_noise import noise_factor
from graphdiff.nn.reconstruction import encode_rows


class DiffRecConfig(ModelConfig):
    """Settings of :class:`DiffRec`; the defaults are its public code's for ``ml-1m-clean``."""

    hidden_channels: int = Field(600, ge=1, description="Width d of the first and last layer.")
    bottleneck_channels: int = Field(
        200, ge=0, description="Width of a layer between them; 0 for a single hidden layer."
    )
    batch_size: int = Field(400, ge=1, description="Users per training step.")
    time_channels: int = Field(10, ge=1, description="Width of the time embedding.")
    normalize: bool = Field(False, description="Scale input rows to unit length.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of a row's entries dropped.")
    num_steps: int = Field(40, ge=1, description="Diffusion steps T.")
    noise_scale: float = Field(0.005, gt=0, description="s: scale of the variances.")
    noise_min: float = Field(0.005, gt=0, description="α_min: smallest variance over s.")
    noise_max: float = Field(0.01, gt=0, description="α_max: largest variance over s.")
    first_variance: float | None = Field(
        1e-5, gt=0, lt=1, description="β_1; None for the value of the schedule."
    )
    reweight: bool = Field(True, description="Weight steps as in the evidence lower bound.")
    sampling_steps: int = Field(
        0, ge=0, description="Step whose noise is added to the row at inference; 0 for no noise."
    )


@dataclass(frozen=True)
class ChainTables(Tables):
    """Tables of DiffRec; ``item`` and ``bias`` are the decoder.

    Attributes:
        encoder: Weights of the first layer that multiply a row, ``[I, d_1]``.
        again: The product of decoder and encoder, ``[d, d_1]``.
        offset: The encoded bias of the decoder, ``[d_1]``.
    """

    encoder: Tensor
    again: Tensor
    offset: Tensor

    def decode_and_encode(self, hidden: Tensor) -> Tensor:
        """Map the last hidden layer ``[B, d]`` to an encoded row ``[B, d_1]``."""
        return torch.addmm(self.offset, hidden, self.again)


class DiffRec(Recommender):
    r"""The DiffRec model from `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_.

    A user's row :math:`\mathbf{x}_0 \in \{0, 1\}^I` is corrupted to
    :math:`\mathbf{x}_t = \sqrt{\bar\alpha_t}\mathbf{x}_0 + \sqrt{1 - \bar\alpha_t}\epsilon`, and a
    network (:class:`~graphdiff.nn.denoiser.Denoiser`) predicts the row from it:

    .. math::
        \mathcal{L} = \mathbb{E}_{t, \epsilon} \Big[\frac{w_t}{p_t T} \frac{1}{I}
        \lVert \mathbf{x}_0 - \hat{\mathbf{x}}_\theta(\mathbf{x}_t, t) \rVert^2\Big], \qquad
        w_t = \mathrm{SNR}(t - 1) - \mathrm{SNR}(t),\; w_1 = 1,

    where t is drawn by importance sampling, :math:`p_t \propto \sqrt{E[L_t^2]}` over the last ten
    losses of each step.

    *Inference.* The observed row, corrupted to step ``sampling_steps`` (by default not at all), is
    used as :math:`\mathbf{x}_T`. All T steps of the reverse chain follow, each with the mean of
    :math:`q(\mathbf{x}_{t-1} | \mathbf{x}_t, \hat{\mathbf{x}}_\theta)`. The scores are
    :math:`\mathbf{x}_0`, the decoder applied to the last hidden layer. The network runs T times
    for any value of ``sampling_steps``.

    The chain is linear outside the network. It therefore runs on encoded rows (rows times the
    first layer's matrix), where the cost of a step does not depend on the number of items; the
    scores equal those of the chain on rows. This is ours, as is drawing the encoded noise from its
    covariance.

    The paper's prediction of ε in place of :math:`\mathbf{x}_0` and its other schedules, which its
    recommended settings do not use, are not implemented. Its code uses decoupled weight decay
    (AdamW); here it is Adam's L2 penalty, which is the same at the recommended value of 0.

    Args:
        config: :class:`DiffRecConfig`.
        graph: Training interactions.
    """

    Config: ClassVar[type[ModelConfig]] = DiffRecConfig
    batch_over: ClassVar[Literal["users", "interactions", "nothing"]] = "users"
    folds_in: ClassVar[bool] = True
    config: DiffRecConfig

    def __init__(self, config: DiffRecConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        width, bottleneck = config.hidden_channels, config.bottleneck_channels
        self.net = Denoiser(
            graph.num_items,
            [width, bottleneck, width] if bottleneck else [width],
            config.time_channels,
            config.dropout,
            config.normalize,
        )
        self.schedule = DiffusionSchedule.linear(
            config.num_steps,
            config.noise_scale,
            config.noise_min,
            config.noise_max,
            config.first_variance,
        )
        self.steps = WindowStepSampler(config.num_steps)

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
        return {
            "hidden_channels": [600, 1000],
            "bottleneck_channels": [0, 200],
            "lr": [1e-5, 1e-4, 5e-4, 1e-3],
            "ema_decay": [0.0, 0.98],
            "num_steps": [5, 40],
            "noise_scale": [1e-3, 5e-3, 1e-1],
            "reweight": [True, False],
        }

    def reset_parameters(self) -> None:
        """Reset the network and the loss history of the step sampler."""
        self.net.reset_parameters()
        self.steps.reset_parameters()

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean error of the predicted rows; ``batch`` is long ``[B]``, user indices."""
        x_0 = self.graph.rows(batch).dense(self.num_items)
        step, importance = self.steps.sample(batch.numel(), generator)
        t = step + 1
        noise = torch.randn(x_0.shape, generator=generator, device=self.device)
        x_t = self.schedule.add_noise(x_0, noise, t)
        loss = (x_0 - self.net(x_t, t, generator)).square().mean(dim=-1)
        if self.config.reweight:
            loss = loss * self.schedule.elbo_weight(t)
        self.steps.update(step, loss)
        return (importance * loss).mean()

    def tables(self) -> ChainTables:
        """Return the decoder, the encoder and their product."""
        encoder, decoder = self.net.row_encoder.weight, self.net.decoder
        return ChainTables(
            item=decoder.weight,
            bias=decoder.bias,
            encoder=encoder.t(),
            again=(encoder @ decoder.weight).t(),
            offset=encoder @ decoder.bias,
        )

    def user_vectors(
        self,
        query: Query,
        tables: Tables,
        sampling_steps: int | None = None,
        on_rows: bool = False,
    ) -> Tensor:
        """Return the last hidden layer at the end of the reverse chain, ``[B, d]``.

        Args:
            query: The users to score for.
            tables: The result of :meth:`tables`.
            sampling_steps: Step 0 … T to which the observed row is corrupted first; by default
                the setting of that name. The chain always has T steps.
            on_rows: Run the chain on dense rows ``[B, I]``, as the public code does. Without noise
                the result is the same at a higher cost. Always on with ``normalize``.

        Raises:
            ConfigError: If ``sampling_steps`` is not in 0 … T.
        """
        assert isinstance(tables, ChainTables)
        rows = query.rows
        if on_rows or self.config.normalize:
            x_t = rows.dense(self.num_items).to(tables.item.dtype)
            encode: Callable[[Tensor], Tensor] = self.net.encode
            decode: Callable[[Tensor], Tensor] = self.net.decoder
            factor = None
        else:
            one = torch.ones_like(rows.row, dtype=tables.encoder.dtype)
            x_t = encode_rows(tables.encoder, rows.row, rows.item, one, rows.num)
            encode, decode, factor = _as_it_is, tables.decode_and_encode, tables.encoder
        if sampling_steps is None:
            sampling_steps = self.config.sampling_steps
        if sampling_steps:
            x_t = self._corrupt(x_t, factor, sampling_steps)

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            return decode(self.net.hidden(encode(x_t), t))

        x_1 = self.schedule.reverse(x_t, predict, last=1)
        return self.net.hidden(encode(x_1), self.schedule.full(1, x_1))

    def _corrupt(self, x_0: Tensor, encoder: Tensor | None, step: int) -> Tensor:
        """Corrupt rows, or rows encoded by ``encoder``, to a step."""
        # A fixed seed: the same query must give the same scores.
        generator = torch.Generator(self.device).manual_seed(0)
        noise = torch.randn(x_0.shape, generator=generator, device=self.device).to(x_0.dtype)
        if encoder is not None:
            noise = noise @ noise_factor(encoder.t() @ encoder).t()
        return self.schedule.add_noise(x_0, noise, self.schedule.full(step, x_0))


def _as_it_is(x: Tensor) -> Tensor:
    return x
