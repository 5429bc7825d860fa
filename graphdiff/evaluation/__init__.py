"""Evaluation: full ranking, metrics, groups of users and items, significance tests, noise."""

from graphdiff.evaluation.ranking import describe_masking, evaluate, evaluate_users

__all__ = ["describe_masking", "evaluate", "evaluate_users"]
