"""A prediction with its bounds."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """What a figure should come to: `mid` is expected, and it should lie between `low` and `high`."""

    low: float
    mid: float
    high: float

    def __post_init__(self) -> None:
        assert self.low <= self.mid <= self.high, f"{self.low}, {self.mid}, {self.high} are not in order"

    def falling(self, of: Callable[[float], float]) -> "Interval":
        """The interval of a decreasing function of this figure, such as the hours of a speed."""
        return Interval(of(self.high), of(self.mid), of(self.low))
