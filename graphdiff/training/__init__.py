"""Training: :func:`fit` around any model, its callbacks and checkpoints."""

from graphdiff.training.fit import FitResult, fit

__all__ = ["FitResult", "fit"]
