"""Fits what a batch or learning rate off the rule costs, on Step Law's public grid: `python -m benchmarks.loss_law.step_law FILE`.

FILE is `data/dense_lr_bs_loss.csv` of github.com/step-law/steplaw (arXiv:2503.04715): 215M to 537M parameters, 4B to 100B tokens,
AdamW, 120 learning rates and batches for each. A loss is that of the cell's best settings plus the inefficiency of its batch and rate, in
logarithms of tokens, times what such a logarithm is worth there.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from nanofit.planning.loss.law import BATCH_BEND, RATE_TOO_HIGH_BEND, RATE_TOO_LOW_BEND, TOKENS_EXPONENT
from nanofit.planning.rules import step_law_batch, step_law_rate

CONTEXT = 2048
FINAL_RATE = "_mlr1.00e-05"
RUNS_IN_A_CELL = 30
NEAR = 0.1
"""Nats above a cell's best run within which runs are fitted; farther out some diverge."""

NATS_OF_A_FACTOR_AT_10B = 0.108
"""Nats that e times the tokens are worth at 10B on this grid, from how its best losses fall with the tokens."""


def main() -> None:
    cells = _read(Path(sys.argv[1]))
    terms, losses = [], []
    for number, ((params, tokens), runs) in enumerate(sorted(cells.items())):
        best = min(loss for _, _, loss in runs)
        worth = NATS_OF_A_FACTOR_AT_10B * (tokens / 1e10) ** -TOKENS_EXPONENT
        for rate, batch, loss in runs:
            if loss - best > NEAR:
                continue
            from_batch = np.log(batch / step_law_batch(tokens))
            rule = step_law_rate(params, tokens) * np.sqrt(min(batch / step_law_batch(tokens), 1.0))
            from_rate = np.log(rate / rule)
            inefficiencies = (
                _bent(min(from_batch, 0), BATCH_BEND),
                _bent(max(from_batch, 0), BATCH_BEND),
                _bent(min(from_rate, 0), RATE_TOO_LOW_BEND),
                _bent(max(from_rate, 0), RATE_TOO_HIGH_BEND),
            )
            cell = [float(number == other) for other in range(len(cells))]
            terms.append([worth * inefficiency for inefficiency in inefficiencies] + cell)
            losses.append(loss)
    weights = np.linalg.lstsq(np.array(terms), np.array(losses), rcond=None)[0]
    residuals = np.array(terms) @ weights - np.array(losses)
    for name, weight in zip(
        ("batch too small", "batch too large", "rate too low", "rate too high"), weights, strict=False
    ):
        print(f"{name:16} {weight:.3f}")
    print(f"{len(losses)} runs of {len(cells)} cells, RMS {np.sqrt(np.mean(residuals**2)):.4f} nats")


def _read(file: Path) -> dict[tuple[float, float], list[tuple[float, float, float]]]:
    """Peak rate, tokens per step and smoothed loss of every run, by parameters in the blocks and tokens."""
    cells = defaultdict(list)
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if FINAL_RATE in row["exp_name"]:
                run = float(row["lr"]), CONTEXT * float(row["bs"]), float(row["smooth loss"])
                cells[float(row["N"]), float(row["D"])].append(run)
    return {cell: runs for cell, runs in cells.items() if len(runs) >= RUNS_IN_A_CELL}


def _bent(distance: float, bend: float) -> float:
    return 2 * bend**2 * (np.sqrt(1 + (distance / bend) ** 2) - 1)


if __name__ == "__main__":
    main()
