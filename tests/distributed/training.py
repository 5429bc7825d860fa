"""Trainings whose results processes are compared by."""

from graphdiff import fit


def fit_exactly(model, data, **arguments):
    """Fit a model in float64, so that orders of summation make no visible difference."""
    return fit(model, data, progress=False, accelerator="cpu", precision="64-true", **arguments)


def learned(model):
    """Return the state of a model without its graph."""
    return {name: x for name, x in model.state_dict().items() if not name.startswith("graph.")}


def history(result):
    """Return the history of a training without what depends on the clock."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]
