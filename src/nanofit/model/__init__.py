"""The one model: `GPT`, whose architectures are settings of it."""

from nanofit.model.cache import KeyValueCache
from nanofit.model.gpt import GPT, build_model
from nanofit.model.loss import linear_cross_entropy

__all__ = ["GPT", "KeyValueCache", "build_model", "linear_cross_entropy"]
