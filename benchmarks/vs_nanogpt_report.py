"""What `vs_nanogpt` found, as a table and as a picture. `python -m benchmarks.vs_nanogpt_report RESULT.json PICTURE.png`
draws a result again."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

THEIRS, OURS = "#8a8f98", "#14508c"


def table(result: dict[str, Any]) -> str:
    """The figures as a person reads them."""
    lines = []
    if "race" in result:
        for name, words in (("against_best_rate", "its best rate"), ("against_its_own_rate", "its own rate")):
            race = result["race"][name]
            sooner = f"{race['times_sooner']:.2f} times sooner" if race["times_sooner"] else "not reached"
            ours = f"{race['nanofit_seconds']:.1f} s" if race["nanofit_seconds"] else "-"
            lines.append(
                f"to nanoGPT's loss {race['val_loss']:.4f} ({words}, {race['learning_rate']:g}): "
                f"nanoGPT {race['nanogpt_seconds']:.1f} s, nanofit {ours}: {sooner}"
            )
    if "step" in result:
        step = result["step"]
        for name, words in (("nanogpt_eager", "eager"), ("nanogpt_compiled", "compiled")):
            lines.append(
                f"the same GPT-2 against nanoGPT {words}: {step['tokens_per_second_ratio'][name]:.2f} times the tokens/s "
                f"({step['tokens_per_second']['nanofit']:,.0f} to {step['tokens_per_second'][name]:,.0f}), "
                f"{step['peak_ratio'][name]:.2f} times the peak memory ({_mib(step['peak_bytes']['nanofit'])} to "
                f"{_mib(step['peak_bytes'][name])})"
            )
    return "\n".join(lines)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def draw(race: dict[str, Any], file: Path) -> None:
    """Validation loss over seconds from the start of the process, of both, into the PNG `file`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    best = race["against_best_rate"]
    target = best["val_loss"]
    for rate, points in race["nanogpt"].items():
        is_best = float(rate) == best["learning_rate"]
        axes.plot(
            [point["seconds"] for point in points],
            [point["val_loss"] for point in points],
            color=THEIRS,
            linewidth=2 if is_best else 1,
            alpha=1 if is_best else 0.45,
            marker="o" if is_best else None,
            markersize=4,
            label=f"nanoGPT, learning rate {rate}",
        )
    lowest = target
    for style, (steps, points) in zip(("-", "--"), race["nanofit"].items(), strict=True):
        ours = [(statistics.median(point["seconds"]), point["val_loss"]) for point in points]
        lowest = min(lowest, *(loss for _, loss in ours))
        axes.plot(
            *zip(*ours, strict=True),
            style,
            color=OURS,
            linewidth=2,
            marker="o",
            markersize=4,
            label=f"nanofit, {steps} steps",
        )
    for name, words in (("against_its_own_rate", "its README's rate"), ("against_best_rate", "its best rate")):
        found = race[name]
        axes.axhline(found["val_loss"], color="#b0552b", linewidth=1, linestyle=":")
        if found["times_sooner"]:
            axes.annotate(
                f"{found['times_sooner']:.1f} times sooner than nanoGPT at {words}",
                (found["nanofit_seconds"] + 2, found["val_loss"]),
                xytext=(0, 3),
                textcoords="offset points",
                fontsize=9,
                color="#b0552b",
            )
    highest = max(point["val_loss"] for points in race["nanogpt"].values() for point in points[1:])
    axes.set(
        xlabel="seconds from the start of the process, everything included",
        ylabel="validation loss, nats per token",
        ylim=(lowest - 0.05, highest + 0.15),
        title="nanofit and nanoGPT: one machine, the same text, as many parameters in the blocks",
    )
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False, loc="upper right")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text())["race"], Path(sys.argv[2]))
