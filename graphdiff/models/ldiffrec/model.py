"""L-DiffRec: DiffRec in the latent space of an autoencoder."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Query, Recommender, Tables
from graphdiff.models.ldiffrec.cluster_vae import ClusterVAE
from graphdiff.models.ldiffrec.item_clusters import item_clusters
from graphdiff.nn.denoiser import Denoiser
from graphdiff.nn.diffusion import DiffusionSchedule, WindowStepSampler
from graphdiff.nn.dropout import dropout


class LDiffRecConfig(ModelConfig):
    """Settings of :class:`LDiffRec`; the defaults are its public code's for ``ml-1m-clean``."""

    hidden_channels: int = Field(300, ge=1, description="Width D of the latent vectors.")
    denoiser_channels: int = Field(300, ge=1, description="Width of the denoiser's hidden layer.")
    denoiser_lr: float = Field(5e-4, gt=0, description="Learning rate of the denoiser.")
    batch_size: int = Field(400, ge=1, description="Users per training step.")
    num_clusters: int = Field(2, ge=1, description="Clusters C of items; 1 for none.")
    cluster_channels: int = Field(64, ge=1, description="Singular vectors used for clustering.")
    shared_decoder: bool = Field(True, description="One decoder instead of one per cluster.")
    input_dropout: float = Field(0.1, ge=0, lt=1, description="Share of a row's items dropped.")
    time_channels: int = Field(10, ge=1, description="Width of the time embedding.")
    normalize: bool = Field(False, description="Scale the denoiser's input to unit length.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of the denoiser's input dropped.")
    num_steps: int = Field(40, ge=1, description="Diffusion steps T.")
    noise_scale: float = Field(0.005, gt=0, description="s: scale of the variances.")
    noise_min: float = Field(0.005, gt=0, description="α_min: smallest variance over s.")
    noise_max: float = Field(0.02, gt=0, description="α_max: largest variance over s.")
    reweight: bool = Field(True, description="Weight steps as in the evidence lower bound.")
    sampling_steps: int = Field(
        0, ge=0, description="Step whose noise is added at inference; 0 for no noise."
    )
    diffusion_weight: float = Field(0.03, ge=0, description="Initial diffusion weight λ.")
    diffusion_floor: float = Field(0.005, ge=0, description="Lower bound of λ.")
    diffusion_epochs: int = Field(500, ge=1, description="Epochs over which λ decreases to 0.")
    kl_weight: float = Field(0.3, ge=0, description="Maximum weight γ of the KL divergence.")
    kl_steps: int = Field(200, ge=1, description="Training steps over which γ increases to 1.")


class LDiffRec(Recommender):
    r"""The L-DiffRec model from `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_.

    A variational autoencoder (:class:`~graphdiff.models.ldiffrec.cluster_vae.ClusterVAE`)
    compresses a user's row, separately for each item cluster, to :math:`\mathbf{z}_0`. Diffusion as
    in :class:`~graphdiff.models.diffrec.DiffRec` runs on :math:`\mathbf{z}_0`, and scores are
    decoded from its prediction. All parts are trained jointly:

    .. math::
        \mathcal{L} = -\sum_i x_i \log
        \mathrm{softmax}_i\big(\mathrm{dec}(\hat{\mathbf{z}}_\theta)\big)
        + \gamma\, \mathrm{KL}\big(q(\mathbf{z}_0 | \mathbf{x}) \,\|\, \mathcal{N}(0, 1)\big)
        + \lambda\, \frac{w_t}{p_t T} \frac{1}{D} \lVert \mathbf{z}_0 - \hat{\mathbf{z}}_\theta
        (\mathbf{z}_t, t) \rVert^2,

    where :math:`\mathbf{x}` is the row after dropout, γ increases from 0 and λ decreases (without
    ``reweight``, λ multiplies the first two terms instead of the third). At inference
    :math:`\mathbf{z}_0` is the mean and all T steps of the reverse chain follow; the decoder is
    linear, so that scores are inner products.

    The paper clusters items by the embeddings of a trained LightGCN; here they are clustered by
    the truncated SVD of the interaction matrix (ours): see
    :mod:`graphdiff.models.ldiffrec.item_clusters`.

    Args:
        config: :class:`LDiffRecConfig`.
        graph: Training interactions.
    """

    Config: ClassVar[type[ModelConfig]] = LDiffRecConfig
    batch_over: ClassVar[Literal["users", "interactions", "nothing"]] = "users"
    folds_in: ClassVar[bool] = True
    config: LDiffRecConfig
    updates: Tensor

    def __init__(self, config: LDiffRecConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self.vae = ClusterVAE(
            item_clusters(graph, config.num_clusters, config.cluster_channels),
            config.hidden_channels,
            config.shared_decoder,
        )
        self.net = Denoiser(
            config.hidden_channels,
            [config.denoiser_channels],
            config.time_channels,
            config.dropout,
            config.normalize,
        )
        self.schedule = DiffusionSchedule.linear(
            config.num_steps, config.noise_scale, config.noise_min, config.noise_max
        )
        self.steps = WindowStepSampler(config.num_steps)
        # A buffer, so that a resumed training continues the schedules of λ and γ.
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
        return {
            "num_clusters": [1, 2],
            "lr": [1e-4, 5e-4, 1e-3],
            "ema_decay": [0.0, 0.98],
            "denoiser_lr": [1e-4, 5e-4],
            "num_steps": [5, 40],
            "noise_scale": [5e-3, 1e-1],
            "diffusion_weight": [0.01, 0.03, 0.05],
        }

    def reset_parameters(self) -> None:
        """Reset both networks, the step sampler and the counter of updates."""
        self.vae.reset_parameters()
        self.net.reset_parameters()
        self.steps.reset_parameters()
        self.updates.zero_()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return two groups: the denoiser has its own learning rate."""
        return [
            {"params": list(self.vae.parameters())},
            {"params": list(self.net.parameters()), "lr": self.config.denoiser_lr},
        ]

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss, averaged over users; ``batch`` is long ``[B]``, user indices."""
        rows = self.graph.rows(batch)
        one = torch.ones(rows.item.numel(), device=self.device)
        value = dropout(one, self.config.input_dropout, generator)
        mean, log_variance = self.vae.encode(rows, value)
        z_0 = mean + (0.5 * log_variance).exp() * self._noise(mean, generator)
        step, importance = self.steps.sample(rows.num, generator)
        t = step + 1
        z_t = self.schedule.add_noise(z_0, self._noise(z_0, generator), t)
        predicted = self.net(z_t, t, generator)
        error = (z_0 - predicted).square().mean(dim=-1)
        if self.config.reweight:
            error = error * self.schedule.elbo_weight(t)
        self.steps.update(step, error)
        diffusion = (importance * error).mean()

        log_share = self.vae.decode(predicted).log_softmax(dim=-1)
        likelihood = (value * log_share[rows.row, rows.item]).sum() / rows.num
        divergence = mean.square() + log_variance.exp() - 1 - log_variance
        diffusion_weight, kl_weight = self._weights()
        autoencoder = kl_weight * 0.5 * divergence.sum(dim=-1).mean() - likelihood
        self.updates += 1
        if self.config.reweight:
            return autoencoder + diffusion_weight * diffusion
        return diffusion_weight * autoencoder + diffusion

    def _weights(self) -> tuple[float, float]:
        """Return λ, by completed epochs, and γ, by training steps."""
        config, updates = self.config, int(self.updates)
        epochs = updates // -(-self.num_users // config.batch_size)
        falling = (1 - epochs / config.diffusion_epochs) * config.diffusion_weight
        return max(falling, config.diffusion_floor), min(
            config.kl_weight, updates / config.kl_steps
        )

    def _noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(like.shape, generator=generator, device=self.device)

    def tables(self) -> Tables:
        """Return weights and biases of the decoder."""
        weight, bias = self.vae.decoder_tables()
        return Tables(item=weight, bias=bias)

    def user_vectors(
        self, query: Query, tables: Tables, sampling_steps: int | None = None
    ) -> Tensor:
        """Return the latent vectors at the end of the reverse chain, ``[B, D]``.

        Args:
            query: The users to score for.
            tables: The result of :meth:`tables`.
            sampling_steps: Step 0 … T to which the encoded row is corrupted first; by default
                the setting of that name. The chain always has T steps.

        Raises:
            ConfigError: If ``sampling_steps`` is not in 0 … T.
        """
        rows = query.rows
        one = torch.ones_like(rows.item, dtype=tables.item.dtype)
        z, _ = self.vae.encode(rows, one)
        if sampling_steps is None:
            sampling_steps = self.config.sampling_steps
        if sampling_steps:
            # A fixed seed: the same query must give the same scores.
            noise = self._noise(z, torch.Generator(self.device).manual_seed(0)).to(z.dtype)
            z = self.schedule.add_noise(z, noise, self.schedule.full(sampling_steps, z))
        return self.schedule.reverse(z, self.net)
