"""DiffMM and its denoiser of rows."""

from graphdiff.models.diffmm.model import DiffMM

__all__ = ["DiffMM"]
