"""Full-ranking evaluation, user groups, significance tests and scores of interactions."""

from graphdiff.evaluation.ranking import evaluate, evaluate_users

__all__ = ["evaluate", "evaluate_users"]
