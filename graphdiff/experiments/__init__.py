"""Experiments: comparing models under one protocol, and tuning their settings.

:func:`graphdiff.experiments.compare.compare` and the commands ``graphdiff compare`` and
``graphdiff tune`` are the entry points. All trainings go through one resumable runner,
:class:`graphdiff.experiments.cells.Experiment`.
"""
