"""Mult-VAE: a variational autoencoder with a multinomial likelihood."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Query, Recommender, Tables
from graphdiff.nn.reconstruction import encode_rows


class MultVAEConfig(ModelConfig):
    """Settings of :class:`MultVAE`."""

    hidden_channels: int = Field(600, ge=1, description="Width of the hidden layers.")
    latent_channels: int = Field(200, ge=1, description="Width k of the latent variable.")
    batch_size: int = Field(500, ge=1, description="Users per training step.")
    input_dropout: float = Field(
        0.5, ge=0, lt=1, description="Share of a row's items that is hidden from the encoder."
    )
    kl_weight: float = Field(0.2, ge=0, description="Maximum weight β of the KL divergence.")
    anneal_steps: int = Field(
        2000, ge=1, description="Training steps over which β grows from 0 to its maximum."
    )


class MultVAE(Recommender):
    r"""The Mult-VAE\ :sup:`PR` model from `"Variational Autoencoders for Collaborative Filtering"
    <https://arxiv.org/abs/1802.05814>`_.

    A binary row :math:`\mathbf{x}_u`, scaled to unit length and with dropout applied, is encoded
    into a Gaussian and decoded into the logits of a multinomial over all items:

    .. math::
        [\boldsymbol\mu, \boldsymbol\sigma] &= W_2 \tanh(W_1 \tilde{\mathbf{x}}_u), \qquad
        \mathbf{z} = \boldsymbol\mu + \boldsymbol\sigma \odot \boldsymbol\epsilon, \\
        \hat{\mathbf{y}}_u &= W_4 \tanh(W_3 \mathbf{z}), \\
        \mathcal{L}_u &= -\sum_{i \in N_u} \log \mathrm{softmax}_i(\hat{\mathbf{y}}_u) +
        \beta\, \mathrm{KL}\big(\mathcal{N}(\boldsymbol\mu, \mathrm{diag}\,\boldsymbol\sigma^2)
        \,\big\Vert\, \mathcal{N}(0, I)\big),

    with biases at each layer and :math:`\log\boldsymbol\sigma^2` in place of
    :math:`\boldsymbol\sigma`. β grows linearly with the training steps. At inference
    :math:`\mathbf{z} = \boldsymbol\mu`, without dropout. A user is represented by their items, so
    unseen users are supported (fold-in).

    The last layer is an inner product with the user vectors :math:`\tanh(W_3 \mathbf{z})`. Rows are
    encoded sparsely, but in training the likelihood needs the logits of all items, dense
    ``[B, I]``, as in the paper.

    Args:
        config: :class:`MultVAEConfig`. The defaults are the paper's, except for the annealing,
            which takes 200,000 steps in the paper, on much larger data.
        graph: Training interactions.
    """

    Config: ClassVar[type[ModelConfig]] = MultVAEConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "users"
    folds_in: ClassVar[bool] = True
    config: MultVAEConfig
    step: Tensor

    def __init__(self, config: MultVAEConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        hidden, latent = config.hidden_channels, config.latent_channels
        # W_1 with one row per item, so that a sparse row is encoded by a sum over its items.
        self.encoder = torch.nn.Embedding(graph.num_items, hidden)
        self.encoder_bias = torch.nn.Parameter(torch.empty(hidden))
        self.to_latent = torch.nn.Linear(hidden, 2 * latent)
        self.from_latent = torch.nn.Linear(latent, hidden)
        self.decoder = torch.nn.Linear(hidden, graph.num_items)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
        return {
            "hidden_channels": [200, 600],
            "latent_channels": [64, 200],
            "lr": [3e-4, 1e-3, 3e-3],
            "input_dropout": [0.3, 0.5, 0.7],
            "kl_weight": [0.05, 0.1, 0.2, 0.5, 1.0],
            "anneal_steps": [500, 2000],
        }

    def reset_parameters(self) -> None:
        """Reset weights (Xavier uniform), biases (normal, std 0.001) and the annealing of β."""
        layers = self.to_latent, self.from_latent, self.decoder
        for weight in (self.encoder.weight, *(layer.weight for layer in layers)):
            torch.nn.init.xavier_uniform_(weight)
        for bias in (self.encoder_bias, *(layer.bias for layer in layers)):
            torch.nn.init.normal_(bias, std=1e-3)
        self.step.zero_()

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean negative evidence lower bound; ``batch`` is long ``[B]``, users."""
        return self.part_loss(batch, generator, slice(None))

    def part_loss(self, batch: Tensor, generator: torch.Generator, part: slice) -> Tensor:
        """Return the contribution of the users ``batch[part]`` to :meth:`loss`."""
        everyone = self.graph.rows(batch)
        seen = torch.rand(everyone.item.shape, generator=generator, device=self.device)
        kept = (seen >= self.config.input_dropout) / (1 - self.config.input_dropout)
        rows = everyone.part(part)
        mean, log_variance = self._encode(rows, kept[everyone.entries(part)])
        size, dtype = (everyone.num, mean.size(1)), mean.dtype
        noise = torch.randn(size, generator=generator, device=self.device, dtype=dtype)[part]
        logit = self.decoder(self._decode(mean + (0.5 * log_variance).exp() * noise))
        partition = logit.logsumexp(dim=1)
        likelihood = (logit[rows.row, rows.item] - partition[rows.row]).sum()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (self._kl_weight() * kl - likelihood) / everyone.num

    def tables(self) -> Tables:
        """Return the weights and biases of the last layer."""
        return Tables(item=self.decoder.weight, bias=self.decoder.bias)

    def user_vectors(self, query: Query, tables: Tables) -> Tensor:
        """Return the last hidden layer of the queried users, ``[B, d]``."""
        mean, _ = self._encode(query.rows, torch.ones_like(query.rows.item))
        return self._decode(mean)

    def _encode(self, rows: Rows, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, ``[B, k]`` each; ``kept`` ``[nnz]`` weights the items."""
        length = torch.bincount(rows.row, minlength=rows.num).clamp(min=1).sqrt()
        table = self.encoder.weight
        weight = (kept / length[rows.row]).to(table.dtype)
        hidden = encode_rows(table, rows.row, rows.item, weight, rows.num) + self.encoder_bias
        mean, log_variance = self.to_latent(hidden.tanh()).chunk(2, dim=-1)
        return mean, log_variance

    def _decode(self, latent: Tensor) -> Tensor:
        return self.from_latent(latent).tanh()

    def _kl_weight(self) -> Tensor:
        """Return β of this training step and advance the step counter."""
        share = (self.step / self.config.anneal_steps).clamp(max=1)
        self.step += 1
        return self.config.kl_weight * share
