"""Training: :func:`graphdiff.fit` for any model, with its settings, callbacks and checkpoints."""
