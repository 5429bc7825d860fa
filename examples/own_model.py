"""Define a model; it trains, saves and takes part in comparisons like the built-in ones."""

import torch
from pydantic import Field

from graphdiff import compare
from graphdiff.graph.negatives import sample_negatives
from graphdiff.models import ModelConfig, Recommender, Tables
from graphdiff.nn import bpr_loss, l2_penalty


class FactorsConfig(ModelConfig):
    """Settings of :class:`Factors`, beside those of every model."""

    regularization: float = Field(1e-3, ge=0, description="Weight of the L2 penalty.")


class Factors(Recommender):
    """Matrix factorisation trained on pairs."""

    Config = FactorsConfig
    batch_over = "interactions"  # batches are positions of training interactions

    def __init__(self, config, graph):
        super().__init__(config, graph)
        self.user = torch.nn.Embedding(graph.num_users, config.hidden_channels)
        self.item = torch.nn.Embedding(graph.num_items, config.hidden_channels)

    def reset_parameters(self):
        torch.nn.init.xavier_uniform_(self.user.weight)
        torch.nn.init.xavier_uniform_(self.item.weight)

    def loss(self, batch, generator):
        index = self.graph.user_of(batch)
        negative = sample_negatives(self.graph, index, generator)
        vectors = self.user(index), self.item(self.graph.col[batch]), self.item(negative)
        return bpr_loss(*vectors) + self.config.regularization * l2_penalty(*vectors)

    def tables(self):
        return Tables(item=self.item.weight, user=self.user.weight)


if __name__ == "__main__":
    options = {"num_users": 300, "num_items": 120}
    print(compare("synthetic", [Factors, "popularity"], options=options, epochs=10))
