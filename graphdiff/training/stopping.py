"""When a training is long past its best epoch, from its learning curve alone.

Patience alone does not suffice. Many models rank by popularity first and stay there for hundreds of
steps, and some get worse before they get better; where an epoch has a few steps only, hundreds of
steps are hundreds of epochs, and a model that has learned all that it can in fifty of them would be
trained on for no reason. So :func:`is_past` looks at steps, epochs and trend. The rule is ours; it
is tested on recorded learning curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

#: A curve has started when its best value is this much above its first ones …
STARTED = 1.25
#: … or above a ranking by popularity, where models with features can begin and stay for long.
ABOVE_POPULARITY = 2.0
#: A curve that has started may end after this many epochs, however few steps they have.
ENOUGH_EPOCHS = 120
#: It has declined, and may end at once, when its last values are below this share of its best ones.
DECLINED = 0.97
#: A curve that has not started may end after a decline that lasts this many times the patience.
LONG_AGO = 4


def is_past(
    curve: Sequence[float],
    epochs: int,
    steps: int,
    patience: int = 30,
    min_steps: int = 1500,
    popularity: float | None = None,
) -> bool:
    """Return whether a training is past its best epoch.

    It is when all of this holds:

    - the last ``patience`` validations brought no new best value;
    - the curve is not rising again after a dip: of these validations, and of twice as many where
      they are since the best, the second half is not better than the first by more than the noise,
      where a half has at least five;
    - ``min_steps`` training steps are done. Fewer suffice for a curve that has *started*, with a
      best value a quarter above the mean of those before it, the first three at most, or twice
      that of a ranking by popularity: 120 epochs, or any number where it has *declined* since, by
      more than 3 % in the mean of half of ``patience`` validations. A curve that has not started
      may end when it has declined and its best value is four times ``patience`` validations ago.

    Args:
        curve: Values of the metric in the order of the validations; higher is better.
        epochs: Epochs done.
        steps: Training steps done.
        patience: Number of validations without improvement before a training can end.
        min_steps: Minimum number of steps of a training whose curve has not started.
        popularity: The metric's value for a ranking by popularity, if known and of use.

    Example:
        >>> rising = [0.1 + 0.01 * n for n in range(20)]
        >>> is_past(rising, epochs=20, steps=80)
        False
        >>> falling = [rising[-1] - 0.001 * n for n in range(30)]
        >>> is_past(rising + falling, epochs=50, steps=200)
        True
    """
    best = max(range(len(curve)), key=curve.__getitem__)
    since = len(curve) - 1 - best
    if since < patience:
        return False
    if steps < min_steps:
        started = best > 0 and curve[best] > STARTED * fmean(curve[: min(best, 3)])
        started |= popularity is not None and curve[best] > ABOVE_POPULARITY * popularity
        enough = started and epochs >= ENOUGH_EPOCHS
        # Before a curve has started, a decline may be the dip that its rise begins with.
        believed = started or since >= LONG_AGO * patience
        if not enough and not (believed and _declined(curve, best, patience)):
            return False
    # The longer span shows a slow rise. All since the best would keep a dip in view for ever.
    return not (_rising(curve[-patience:]) or _rising(curve[-min(since, 2 * patience) :]))


def _declined(curve: Sequence[float], best: int, patience: int) -> bool:
    half = max(patience // 2, 1)
    top = curve[max(best - half // 2, 0) : best + half // 2 + 1]
    return fmean(curve[-half:]) < DECLINED * fmean(top)


def _rising(curve: Sequence[float]) -> bool:
    half = len(curve) // 2
    if half < 5:  # Too few for a trend.
        return False
    recent = curve[-2 * half :]
    before, last = recent[:half], recent[half:]
    # The variance of the noise, from differences of neighbours, in which a trend cancels.
    steps = [(b - a) ** 2 / 2 for a, b in pairwise(recent)]
    error = (2 * fmean(steps) / half) ** 0.5
    return fmean(last) - fmean(before) > 2 * error
