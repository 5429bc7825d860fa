"""The diffusion process that LD4MRec's settings describe."""

from __future__ import annotations

from collections.abc import Callable

from graphdiff.errors import ConfigError
from graphdiff.models.ld4mrec.config import LD4MRecConfig
from graphdiff.models.ld4mrec.heat import ContentHeatProcess, HeatProcess
from graphdiff.nn.diffusion import Schedule
from graphdiff.nn.processes import (
    CombinedProcess,
    FlippingProcess,
    GaussianProcess,
    MaskingProcess,
    RowProcess,
)


def build_process(config: LD4MRecConfig, schedule: Schedule | None = None) -> RowProcess:
    """Return the process of the settings.

    Args:
        config: All settings.
        schedule: The schedule of Gaussian noise in place of that of the settings.

    Raises:
        ConfigError: If items are to be hidden with a mean share of 0.
    """
    diffusion, share = config.diffusion, config.objective.input_dropout
    num_steps, strength = diffusion.num_steps, diffusion.strength
    named = {} if strength is None else {"strength": strength}
    make: dict[str, Callable[[], RowProcess]] = {
        "gaussian": lambda: GaussianProcess(schedule or diffusion.schedule()),
        "masking": lambda: MaskingProcess(num_steps, share),
        "flipping": lambda: FlippingProcess(
            num_steps, share, *([] if strength is None else [strength])
        ),
        "heat": lambda: HeatProcess(num_steps, **named),
        "content_heat": lambda: ContentHeatProcess(num_steps, **named),
    }
    if not share and diffusion.process.startswith(("masking", "flipping")):
        raise ConfigError(
            f"diffusion.process={diffusion.process} hides items with the mean share "
            "objective.input_dropout, which is 0; give a share above 0"
        )
    first, *rest = (make[name]() for name in diffusion.process.split("+"))
    return CombinedProcess(first, *rest) if rest else first
