"""DiffMM and its row denoiser."""

from graphdiff.models.diffmm.model import DiffMM

__all__ = ["DiffMM"]
