"""The training of a run: the step, the loop around it, checkpoints, and what happens when something goes wrong."""

from nanofit.common.errors import Stopped
from nanofit.training.run import Outcome, train

__all__ = ["Outcome", "Stopped", "train"]
