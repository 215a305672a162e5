"""The loss curve of a run, as text for a terminal (plotext) and as a PNG (matplotlib)."""

from dataclasses import dataclass
from itertools import accumulate
from math import inf
from pathlib import Path

from nanofit.config.run_folder import Metrics


@dataclass(frozen=True)
class Level:
    """A horizontal line to hold the curve against, in the curve's unit."""

    name: str
    value: float


@dataclass(frozen=True)
class Curve:
    """Training and validation loss over the steps, in `unit` (nats per token times a scale)."""

    train: list[tuple[int, float]]
    val: list[tuple[int, float]]
    unit: str
    levels: tuple[Level, ...] = ()


def loss_curve(
    metrics: Metrics, scale: float = 1.0, unit: str = "nats per token", levels: tuple[Level, ...] = ()
) -> Curve:
    """The curve of a run; `scale` turns nats per token into `unit`.

    It begins after the first twentieth of the steps, whose fall would take most of the scale; levels above it are left out. The
    training loss, which is that of single batches, is a running mean over a twentieth of the logged steps on either side.
    """
    train, val = metrics.losses("train_loss"), metrics.losses("val_loss")
    begin = max((step for step, _ in (*train, *val)), default=0) / 20
    steps = [step for step, _ in train if step >= begin]
    smooth = _running_mean([loss * scale for step, loss in train if step >= begin], len(train) // 20)
    shown_val = [(step, loss * scale) for step, loss in val if step >= begin]
    top = max((*smooth, *(loss for _, loss in shown_val)), default=inf)
    shown_levels = tuple(level for level in levels if level.value <= top)
    return Curve(list(zip(steps, smooth, strict=True)), shown_val, unit, shown_levels)


def _running_mean(values: list[float], reach: int) -> list[float]:
    """The mean of each value and of up to `reach` neighbours on either side."""
    sums, means = [0.0, *accumulate(values)], []
    for index in range(len(values)):
        first, end = max(index - reach, 0), min(index + reach + 1, len(values))
        means.append((sums[end] - sums[first]) / (end - first))
    return means


def as_text(curve: Curve, width: int, height: int = 15) -> str:
    """The curve in characters, without colours."""
    import plotext

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(width, height)
    if curve.train:
        plotext.plot(*zip(*curve.train, strict=True), label="train", marker="braille")
    if curve.val:
        plotext.plot(*zip(*curve.val, strict=True), label="validation", marker="hd")
    steps = [step for step, _ in (*curve.train, *curve.val)] or [0]
    for names, value in _labels(curve, height):
        plotext.hline(value)
        plotext.text(names, x=max(steps), y=value, alignment="right")
    plotext.xticks(sorted({min(steps), max(steps)}))
    plotext.xlabel("step")
    plotext.title(f"loss, {curve.unit}")
    return plotext.uncolorize(plotext.build())


def _labels(curve: Curve, height: int) -> list[tuple[str, float]]:
    """The text and the loss of each level's label. Levels less than two rows apart share one."""
    losses = [loss for _, loss in (*curve.train, *curve.val)] + [level.value for level in curve.levels]
    two_rows = 2 * (max(losses, default=0.0) - min(losses, default=0.0)) / max(height - 5, 1)
    labels: list[tuple[str, float]] = []
    for level in sorted(curve.levels, key=lambda level: level.value):
        if labels and level.value - labels[-1][1] < two_rows:
            labels[-1] = (f"{labels[-1][0]}, {level.name}", labels[-1][1])
        else:
            labels.append((level.name, level.value))
    return labels


def as_png(curve: Curve, file: Path, title: str) -> None:
    """Writes the curve to `file`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if curve.train:
        axes.plot(*zip(*curve.train, strict=True), color="#9db8d2", linewidth=1, label="training, smoothed")
    if curve.val:
        axes.plot(
            *zip(*curve.val, strict=True), color="#14508c", linewidth=2, marker="o", markersize=4, label="validation"
        )
    for level in curve.levels:
        axes.axhline(level.value, color="#b0552b", linewidth=1, linestyle="--")
        axes.annotate(
            f"{level.name} {level.value:.2f}",
            (1.0, level.value),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="#b0552b",
        )
    axes.set(xlabel="step", ylabel=curve.unit, title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False, loc="lower left")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
