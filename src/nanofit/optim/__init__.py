"""Optimizers, and the one place where parameters are sorted into groups."""

from nanofit.optim.build import build_optimizer

__all__ = ["build_optimizer"]
