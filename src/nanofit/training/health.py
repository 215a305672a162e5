"""Signs of a run's health, cheap enough for every run: how far an update moves the weights, and losses that jump."""

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from nanofit.planning.memory.peak import SAMPLED

WINDOW = 100
FEWEST = 30
DEVIATIONS = 6.0


class UpdateRatio:
    """The size of one update against the size of what it changes, by kind of parameter: call `before` and `after` it.

    Each is a ratio of root mean squares over a sample of the entries, so it takes no memory to speak of. About 1e-3 is
    usual for Adam; much more, and training is close to unstable, much less, and it hardly learns.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._parameters: dict[str, list[Tensor]] = {group["kind"]: group["params"] for group in optimizer.param_groups}
        self._before: dict[str, list[Tensor]] = {}

    def before(self) -> None:
        self._before = {
            kind: [_sample(parameter).clone() for parameter in parameters]
            for kind, parameters in self._parameters.items()
        }

    def after(self) -> dict[str, Tensor]:
        """The ratio of each kind, on the device."""
        ratios = {}
        for kind, befores in self._before.items():
            afters = [_sample(parameter) for parameter in self._parameters[kind]]
            moved = _norm([after - before for after, before in zip(afters, befores, strict=True)])
            ratios[kind] = moved / _norm(befores).clamp_min(1e-12)
        self._before = {}
        return ratios


def _sample(parameter: Tensor) -> Tensor:
    return parameter.detach().view(-1)[:: -(-parameter.numel() // SAMPLED)]


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.stack([tensor.float().norm() for tensor in tensors]).norm()


@dataclass(frozen=True)
class Spike:
    """A loss far above those before it, which lay around `usual`."""

    step: int
    loss: float
    usual: float


class SpikeWatch:
    """Finds the steps whose loss lies more than six standard deviations above the last hundred losses."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def find(self, first_step: int, losses: list[float]) -> list[Spike]:
        """The spikes among the losses of the steps from `first_step` on, which follow those of the last call."""
        spikes = []
        for step, loss in enumerate(losses, first_step):
            if len(self._recent) >= FEWEST:
                usual = sum(self._recent) / len(self._recent)
                variance = sum((each - usual) ** 2 for each in self._recent) / len(self._recent)
                if loss > usual + DEVIATIONS * math.sqrt(variance):
                    spikes.append(Spike(step, loss, usual))
            self._recent.append(loss)
        return spikes
