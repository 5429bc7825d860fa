"""LD4MRec: a light diffusion model for multimedia recommendation."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.nn.cnet import CNet
from graphdiff.nn.diffusion import DiffusionSchedule, StepSampler
from graphdiff.nn.graph import RecGraph
from graphdiff.nn.losses import sampled_softmax_loss
from graphdiff.nn.reconstruction import (
    catalogue,
    encode_rows,
    noise_factor,
    reconstruction_error,
)
from graphdiff.nn.signals import CollaborativeSignal, ModalityGate, ModalitySignal


class LD4MRecConfig(ModelConfig):
    """Settings of :class:`LD4MRec`."""

    lr: float = Field(3e-3, gt=0, description="Learning rate of Adam.")
    batch_size: int = Field(512, ge=1, description="Users per training step.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay of the average of the weights.")
    num_blocks: int = Field(1, ge=0, description="Conditional residual blocks K of C-Net.")
    num_layers: int = Field(2, ge=0, description="Round trips over the user-item graph.")
    num_item_layers: int = Field(1, ge=0, description="Layers on each item-item graph.")
    num_neighbors: int = Field(10, ge=1, description="Neighbours k in each item-item graph.")
    row_exponent: float = Field(0.5, ge=0, le=1, description="ν: a row is scaled by 1/|N_u|^ν.")
    num_steps: int = Field(20, ge=1, description="Diffusion steps T.")
    noise_scale: float = Field(0.1, gt=0, lt=1, description="Largest variance s of the noise.")
    noise_min: float = Field(0.01, gt=0, le=1, description="Smallest share of it.")
    input_dropout: float = Field(
        0.5, ge=0, lt=1, description="Share of a row's items hidden from the encoder."
    )
    kept_weight: float = Field(
        0.0, ge=0, description="Weight of the items that the encoder has seen; 1 for hidden ones."
    )
    user_exponent: float = Field(0.5, ge=0, le=1, description="A user's loss is over |N_u|^this.")
    temperature: float = Field(0.15, gt=0, description="τ of the scores.")
    unobserved_weight: float = Field(0.1, ge=0, description="α₀ of items not observed.")
    soft_probability: float = Field(0.1, ge=0, le=1, description="p of softening a target.")
    soft_intensity: float = Field(0.1, ge=0, le=1, description="γ of softening a target.")
    reconstruction: float = Field(1.0, ge=0, description="Weight of the reconstruction error.")
    ranking: float = Field(1.0, ge=0, description="Weight of the ranking loss.")
    num_negatives: int = Field(1024, ge=2, description="Negatives that a batch shares.")


class State(NamedTuple):
    """Item tables of one step: the same for all users."""

    paths: Tensor  # [I, (1 + M) * d]: collaborative table, then one per modality
    item: Tensor  # [I, d], what decodes


class LD4MRec(Recommender):
    Config: ClassVar[type[ModelConfig]] = LD4MRecConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "users"
    uses_content: ClassVar[bool] = True
    config: LD4MRecConfig

    def __init__(self, config: LD4MRecConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        d = config.hidden_channels
        self.embedding = torch.nn.Parameter(torch.empty(graph.num_items, d))
        self.bias = torch.nn.Parameter(torch.zeros(graph.num_items))
        self.scale = torch.nn.Parameter(torch.zeros(()))
        self.rec_bias = torch.nn.Parameter(torch.zeros(graph.num_items))
        self.collaborative = CollaborativeSignal(config.num_layers)
        self.content = torch.nn.ModuleDict(
            {
                name: ModalitySignal(graph.features(name)[0].size(1), d, config.num_item_layers)
                for name in graph.modalities
            }
        )
        self.gate = ModalityGate(max(1, len(graph.modalities)), d) if graph.modalities else None
        self.schedule = DiffusionSchedule(config.num_steps, config.noise_scale, config.noise_min)
        self.steps = StepSampler(config.num_steps + 1)
        self.cnet = CNet(d, config.num_blocks, config.num_steps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.embedding, std=0.1)
        torch.nn.init.zeros_(self.bias)
        torch.nn.init.zeros_(self.scale)
        torch.nn.init.zeros_(self.rec_bias)
        for signal in self.content.values():
            signal.reset_parameters()
        if self.gate is not None:
            self.gate.reset_parameters()
        self.steps.reset_parameters()
        self.cnet.reset_parameters()

    def item_state(self) -> State:
        graph = self.graph
        interactions = graph.once("interactions", graph.item_to_user_graph)
        paths = [self.collaborative(self.embedding, interactions)]
        for name, signal in self.content.items():
            similar = graph.once(name, lambda n=name: graph.similarity_graph({n: 1.0}))
            paths.append(signal(self.embedding, *graph.features(name), similar))
        item = paths[0]
        if len(paths) > 1:
            item = item + torch.stack(paths[1:]).mean(dim=0)
        return State(torch.cat(paths, dim=-1), item)

    def encode(self, state: State, row: Tensor, item: Tensor, num_rows: int) -> tuple[Tensor, ...]:
        """(collaborative [B,d], preference [B,d], share [B,M])."""
        d = self.config.hidden_channels
        degree = torch.bincount(row, minlength=num_rows).clamp(min=1).float()
        weight = degree.pow(-self.config.row_exponent)
        out = encode_rows(state.paths, row, item, weight[row], num_rows)
        collaborative = out[:, :d]
        if self.gate is None:
            empty = out.new_zeros(num_rows, 0)
            return collaborative, torch.zeros_like(collaborative), empty
        per_modality = out[:, d:].view(num_rows, -1, d)
        share = self.gate(per_modality)
        preference = (share.unsqueeze(-1) * per_modality).sum(dim=1)
        return collaborative, preference, share

    def denoise_net(self, h: Tensor, t: Tensor, c: Tensor, p: Tensor) -> Tensor:
        return F.normalize(self.cnet(h, t, c, p), dim=-1)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        config, num = self.config, batch.numel()
        row, item = self.graph.rows(batch)
        state = self.item_state()

        def rand(n: int) -> Tensor:
            return torch.rand(n, generator=generator, device=self.device)

        kept = rand(row.numel()) >= config.input_dropout
        c, p, _ = self.encode(state, row[kept], item[kept], num)
        hidden = c + p
        t, step_weight = self.steps.sample(num, generator)
        degree = torch.bincount(row, minlength=num).clamp(min=1).float()
        if config.noise_scale > 0:
            white = torch.randn(hidden.shape, generator=generator, device=self.device)
            factor = noise_factor(state.item)
            noise = white @ factor.t() * (self.row_norm(degree) / self.num_items**0.5)[:, None]
            hidden = self.schedule.add_noise(hidden, noise, t)
        h = self.denoise_net(hidden, t, c, p)
        v = F.normalize(state.item, dim=-1)
        weight = torch.where(kept, config.kept_weight, 1.0)
        user_weight = degree.pow(-config.user_exponent) * step_weight
        loss = h.new_zeros(())
        if config.reconstruction:
            softened = rand(row.numel()) < config.soft_probability
            target = torch.where(softened, 1 - config.soft_intensity, 1.0)
            alpha = torch.full_like(self.bias, config.unobserved_weight)
            prior = config.soft_probability * config.soft_intensity * self.popularity
            items = catalogue(v * self.scale.exp(), self.rec_bias, alpha, prior)
            error = reconstruction_error(h, items, row, item, target, weight)
            per_user = error
            loss = loss + config.reconstruction * (user_weight * error).mean()
        if config.ranking:
            ranking = sampled_softmax_loss(
                h / config.temperature,
                v,
                self.bias,
                row,
                item,
                weight,
                config.num_negatives,
                generator,
                self.frequency,
            )
            per_user = ranking
            loss = loss + config.ranking * (user_weight * ranking).mean()
        self.steps.update(t, per_user.detach() * degree.pow(-config.user_exponent))
        return loss

    def row_norm(self, degree: Tensor) -> Tensor:
        """L2 norm of a scaled row."""
        return degree.pow(0.5 - self.config.row_exponent)

    @property
    def popularity(self) -> Tensor:
        deg = self.graph.item_degree().float()
        return deg / deg.max()

    @property
    def frequency(self) -> Tensor:
        deg = self.graph.item_degree().float()
        return deg / deg.sum()

    def tables(self) -> Tables:
        state = self.item_state()
        self._state = state
        return Tables(item=F.normalize(state.item, dim=-1), bias=self.bias)

    def user_vectors(self, user_index: Tensor, tables: Tables) -> Tensor:
        row, item = self.graph.rows(user_index)
        c, p, _ = self.encode(self._state, row, item, user_index.numel())
        t = torch.zeros_like(user_index)
        return self.denoise_net(c + p, t, c, p) / self.config.temperature
