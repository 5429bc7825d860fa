"""Graphs of a model as dense matrices, for references that follow a paper's equations."""

import torch
import torch.nn.functional as F


def interactions(model):
    """Return A, ``[U, I]``."""
    matrix = torch.zeros(model.num_users, model.num_items)
    matrix[model.graph.user, model.graph.col] = 1
    return matrix


def normalized_adjacency(model):
    """Return the symmetrically normalised user-item graph, ``[U + I, U + I]``."""
    a = interactions(model)
    num_users, num_items = a.shape
    both = torch.cat(
        [
            torch.cat([torch.zeros(num_users, num_users), a], dim=1),
            torch.cat([a.t(), torch.zeros(num_items, num_items)], dim=1),
        ]
    )
    degree = both.sum(dim=1).clamp(min=1)
    return both / (degree[:, None] * degree[None, :]).sqrt()


def looped(model, user, item):
    """Return the symmetrically normalised graph of pairs of users and items with a loop at every
    node, ``[U + I, U + I]``."""
    adjacency = torch.eye(model.num_users + model.num_items)
    adjacency[user, item + model.num_users] = adjacency[item + model.num_users, user] = 1
    degree = adjacency.sum(dim=1)
    return adjacency / (degree[:, None] * degree[None]).sqrt()


def lightgcn(model):
    """Return the mean of the embeddings of all layers, ``[U + I, d]``."""
    adjacency = normalized_adjacency(model)
    layers = [torch.cat([model.user_embedding.weight, model.item_embedding.weight])]
    for _ in range(model.config.num_layers):
        layers.append(adjacency @ layers[-1])
    return torch.stack(layers).mean(dim=0)


def similarity(data, modality, k):
    """Return LATTICE's graph: k nearest items, itself included, cosine weights, symmetric norm."""
    x, has = data["item"][f"x_{modality}"].double(), data["item"][f"has_{modality}"]
    cosine = F.normalize(x, dim=1) @ F.normalize(x, dim=1).t()
    cosine[:, ~has] = -torch.inf
    matrix = torch.zeros_like(cosine)
    for i in has.nonzero().flatten().tolist():
        nearest = cosine[i].topk(min(k, int(has.sum()))).indices
        matrix[i, nearest] = cosine[i, nearest].clamp(min=0)
    degree = matrix.sum(dim=1)
    scale = torch.where(degree > 0, degree.rsqrt(), 0)
    return (scale[:, None] * matrix * scale[None, :]).float()


def bpr(user, positive, negative):
    """Return the negative mean log-probability of the correct order."""
    return -F.logsigmoid((user * positive).sum(-1) - (user * negative).sum(-1)).mean()


def info_nce(view, other, temperature):
    """Return one term per row, contrasted with all rows of ``other``."""
    view, other = F.normalize(view, dim=1), F.normalize(other, dim=1)
    positive = ((view * other).sum(dim=1) / temperature).exp()
    return -(positive / (view @ other.t() / temperature).exp().sum(dim=1)).log()
