"""Fits L(N, D) = E + A N^-alpha + B (s D)^-beta to the points, with one s for every recipe: how many tokens of llm.c's AdamW
recipe ("base", s = 1) a token is worth to it.

N counts the parameters in the blocks and one n_embd x 50304 matrix. For given exponents the rest is linear least squares, so
only the two exponents are searched for. The points say little about them (most have 124M parameters), so they
are drawn towards those of a large published grid; `fit(points, prior=None)` leaves them free.
"""

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

VOCABULARY_ROWS = 50304

PRIOR = (0.3478, 0.3658, 0.03)
"""alpha and beta of Besiroglu et al. 2024 (arXiv:2404.10102), who fitted 240 runs of Chinchilla's grid, and how far they may be
off here: their standard error is 0.02, for other data and another tokenizer."""

NOISE = 0.005
"""Nats by which a point may miss the law: between people's runs of one recipe, not between seeds (0.0013)."""

EXPONENTS = (0.05, 0.9)
COARSEST, FINEST = 0.1, 1e-5


@dataclass(frozen=True)
class Point:
    """A finished public run: parameters (the law's N), tokens and nats per token on FineWeb's validation split."""

    recipe: str
    params: int
    tokens: int
    context: int
    val_loss: float
    source: str


@dataclass(frozen=True)
class Law:
    """A fitted law. `data_efficiencies` is s by recipe."""

    floor: float
    params_scale: float
    params_exponent: float
    tokens_scale: float
    tokens_exponent: float
    data_efficiencies: dict[str, float]

    def loss(self, params: float, tokens: float, data_efficiency: float) -> float:
        """Nats a token after `tokens` tokens of a recipe with that s."""
        return (
            self.floor
            + self.params_scale * params**-self.params_exponent
            + self.tokens_scale * (data_efficiency * tokens) ** -self.tokens_exponent
        )

    def residual(self, point: Point) -> float:
        """How much worse than the law a point is, nats."""
        return point.val_loss - self.loss(point.params, point.tokens, self.data_efficiencies[point.recipe])


def read_points() -> list[Point]:
    """The points of the fit: those evaluated in windows as they were trained. One of context 32,768 reads 0.07 to 0.09 lower."""
    with (Path(__file__).parent / "points.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Point(
            recipe=row["recipe"],
            params=int(row["params_in_blocks"]) + VOCABULARY_ROWS * int(row["n_embd"]),
            tokens=int(row["tokens"]),
            context=int(row["context"]),
            val_loss=float(row["val_loss"]),
            source=row["source"],
        )
        for row in rows
        if int(row["context"]) <= 1024
    ]


def fit(points: list[Point], prior: tuple[float, float, float] | None = PRIOR) -> Law:
    """The law with the least squared residuals over NOISE, plus the exponents' squared distances from the prior's over its width."""

    def cost(alpha: float, beta: float) -> float:
        _, residuals = _solve(points, alpha, beta)
        total = float(residuals @ residuals) / NOISE**2
        if prior is not None:
            total += ((alpha - prior[0]) / prior[2]) ** 2 + ((beta - prior[1]) / prior[2]) ** 2
        return total

    alpha, beta = _lowest(cost, PRIOR[0], PRIOR[1])
    (floor, params_scale, *tokens_scales), _ = _solve(points, alpha, beta)
    by_recipe = dict(zip(_recipes(points), tokens_scales, strict=True))
    base = by_recipe["base"]
    return Law(
        floor=floor,
        params_scale=params_scale * 1e8**alpha,
        params_exponent=alpha,
        tokens_scale=base * 1e9**beta,
        tokens_exponent=beta,
        data_efficiencies={recipe: float((base / scale) ** (1 / beta)) for recipe, scale in by_recipe.items()},
    )


def _recipes(points: list[Point]) -> list[str]:
    return sorted({point.recipe for point in points})


def _solve(points: list[Point], alpha: float, beta: float) -> tuple[list[float], np.ndarray]:
    """E, A (of N in 100M) and each recipe's B s^-beta (of D in 1B) for these exponents, and the residuals."""
    recipes = _recipes(points)
    terms = np.zeros((len(points), 2 + len(recipes)))
    terms[:, 0] = 1
    for row, point in zip(terms, points, strict=True):
        row[1] = (point.params / 1e8) ** -alpha
        row[2 + recipes.index(point.recipe)] = (point.tokens / 1e9) ** -beta
    losses = np.array([point.val_loss for point in points])
    weights = np.linalg.lstsq(terms, losses, rcond=None)[0]
    return weights.tolist(), losses - terms @ weights


def _lowest(cost: Callable[[float, float], float], alpha: float, beta: float) -> tuple[float, float]:
    """A pattern search: the best of the neighbours while there is a better one, then with half the step."""
    step, lowest = COARSEST, cost(alpha, beta)
    while step > FINEST:
        around = [
            (cost(a, b), a, b)
            for a, b in ((alpha + i * step, beta + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1))
            if EXPONENTS[0] <= a <= EXPONENTS[1] and EXPONENTS[0] <= b <= EXPONENTS[1]
        ]
        best = min(around)
        if best[0] < lowest:
            lowest, alpha, beta = best
        else:
            step /= 2
    return alpha, beta


def held_out(points: list[Point]) -> list[Point]:
    """The points that can be predicted from the others: context 1024 and a recipe with a second point."""
    of_recipe = Counter(point.recipe for point in points)
    return [point for point in points if point.context == 1024 and of_recipe[point.recipe] >= 2]


def leave_one_out(points: list[Point]) -> dict[Point, float]:
    """The residual of every point of `held_out` under the law that is fitted without it. (Equal rows are one point.)"""
    return {out: fit([point for point in points if point is not out]).residual(out) for out in held_out(points)}


def rms(values: list[float]) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))
