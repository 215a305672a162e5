"""What an unfinished decay costs, read off the logs of public runs before their rate had reached zero.

`unfinished.csv` holds their validation losses at some shares of the peak rate, and where they ended. The price at a step
is the loss there less what the law says a finished run of that many tokens reaches, with the s that the run's end gives.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loss_law.fit import Law


@dataclass(frozen=True)
class Unfinished:
    """A run at `step` of `steps`, where its rate is `rate_share` of its peak. Losses in nats per token."""

    run: str
    optimizer: str
    params: int
    tokens: int
    rate_share: float
    val_loss: float
    final_tokens: int
    final_val_loss: float

    def price(self, law: Law) -> float:
        """Nats above a finished run of as many tokens."""
        above_floor = self.final_val_loss - law.loss(self.params, float("inf"), 1.0)
        data_efficiency = (above_floor / law.tokens_scale) ** (-1 / law.tokens_exponent) / self.final_tokens
        return self.val_loss - law.loss(self.params, self.tokens, data_efficiency)


def read_unfinished() -> list[Unfinished]:
    """The rows of `unfinished.csv`."""
    with (Path(__file__).parent / "unfinished.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Unfinished(
            run=row["run"],
            optimizer=row["optimizer"],
            params=int(row["params"]),
            tokens=int(row["step"]) * int(row["tokens_per_step"]),
            rate_share=float(row["rate_share"]),
            val_loss=float(row["val_loss"]),
            final_tokens=int(row["steps"]) * int(row["tokens_per_step"]),
            final_val_loss=float(row["final_val_loss"]),
        )
        for row in rows
    ]
