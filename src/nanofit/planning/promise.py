"""What a run was promised and what it reached: the plans in its folder, held against its metrics. No torch.

`plan.json` is `{"format_version": 1, "plans": [...]}`, each plan as `nanofit plan --json` prints it. The list only grows: the plan
that was saved with the recipe, the one at the start of training, and one for each changed budget. The newest plan of the run's
present budget is its promise.
"""

import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from nanofit.common.durable import write_file
from nanofit.common.units import duration, figure, quantity
from nanofit.config.run_folder import Metrics, RunFolder
from nanofit.planning.interval import Interval

if TYPE_CHECKING:
    from nanofit.config.recipe import Recipe

FORMAT_VERSION = 1
"""Of plan.json."""

GIB = 2**30

TIMELY, TIMELY_SECONDS = 0.02, 2.0
"""A run that ends within this share of its time, or within so many seconds of it, kept it: it has whole steps only."""

NOTABLE_WAIT = 0.02
"""A wait for data longer than this share of the run is named as a reason."""


@dataclass(frozen=True)
class Promised:
    """What the plan of a run says: nats per token, hours, tokens, tokens per second, and GiB; None where it says nothing.
    `gpu` names the card that it is for; on a CPU the memory is that of tensors alone."""

    val_loss: Interval | None
    hours: Interval | None
    tokens: int | None
    tokens_per_second: Interval | None
    peak_memory_gib: float | None
    gpu: str | None = None
    is_cpu: bool = False

    def document(self) -> dict[str, Any]:
        """As `nanofit eval --json` and `nanofit runs --json` print it."""
        return {name: value for name, value in asdict(self).items() if name not in ("gpu", "is_cpu")}


@dataclass(frozen=True)
class Reached:
    """What the run came to so far, in the units of `Promised`. `waited_seconds` for data; `val_reduced`: the loss is of fewer tokens
    than the recipe says."""

    val_loss: float | None
    hours: float
    tokens: int
    tokens_per_second: float | None
    peak_memory_gib: float | None
    waited_seconds: float = 0.0
    val_reduced: bool = False

    def document(self) -> dict[str, Any]:
        """As `nanofit eval --json` and `nanofit runs --json` print it."""
        return {name: value for name, value in asdict(self).items() if name not in ("waited_seconds", "val_reduced")}


@dataclass(frozen=True)
class Comparison:
    """One figure: what was promised and reached, as text. `kept` is None where nothing is to be judged; `reason`: the likely one
    where it was not kept."""

    name: str
    promised: str
    reached: str
    kept: bool | None = None
    reason: str = ""


def read_plans(run: RunFolder) -> list[dict[str, Any]]:
    """The plans of a run, oldest first. Empty where plan.json is missing or damaged; a plan.json of older versions promised nothing."""
    try:
        plans = json.loads(run.plan_file.read_text(encoding="utf-8"))["plans"]
        return [plan for plan in plans if _is_plan(plan)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def append_plans(run: RunFolder, new: list[dict[str, Any]]) -> None:
    """Adds plans to the run's, on disk."""
    if not new:
        return
    plans = [*read_plans(run), *new]
    write_file(run.plan_file, json.dumps({"format_version": FORMAT_VERSION, "plans": plans}, indent=1))


def promise_of(run: RunFolder) -> Promised | None:
    """The promise for the budget in the run's recipe.toml; None where there is no plan for it."""
    try:
        budget = tomllib.loads(run.recipe_file.read_text(encoding="utf-8"))["budget"]
    except (OSError, ValueError, KeyError, RecursionError):
        return None
    for plan in reversed(read_plans(run)):
        if {name: value for name, value in plan["recipe"]["budget"].items() if value is not None} == budget:
            return _promised(plan)
    return None


def saved_plan_file(recipe_file: Path) -> Path:
    """Where `nanofit plan --save` puts the plan of a recipe file."""
    return recipe_file.with_suffix(".plan.json")


def saved_plan(recipe_file: Path, recipe: "Recipe") -> dict[str, Any] | None:
    """The plan that was saved with a recipe file, if the file still has the model, data, batch and budget that were planned."""
    try:
        plan = json.loads(saved_plan_file(recipe_file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    sections = recipe.model_dump(mode="json")
    same = _is_plan(plan) and all(
        plan["recipe"].get(name) == sections[name] for name in ("model", "data", "batch", "budget")
    )
    return plan if same else None


def reached_by(metrics: Metrics) -> Reached:
    """What the lines of a run tell. The speed is the median of its lines; the first of each process, which compiled, is left out."""
    timed = {step: line["tokens_per_second"] for step, line in metrics.steps.items() if line.get("tokens_per_second")}
    begins = [event["step"] for event in metrics.events if event["event"] in ("started", "resumed")]
    firsts = {min((step for step in timed if step > begin), default=0) for begin in begins}
    speeds = [rate for step, rate in timed.items() if step not in firsts]
    lines = list(metrics.steps.values())
    losses = metrics.losses("val_loss")
    last_step, val_loss = losses[-1] if losses else (0, None)
    memory = max((line.get("peak_memory_bytes") or 0 for line in lines), default=0)
    return Reached(
        val_loss=val_loss,
        hours=_seconds_to_end(metrics) / 3600,
        tokens=metrics.last.get("tokens", 0),
        tokens_per_second=median(speeds) if speeds else None,
        peak_memory_gib=memory / GIB if memory else None,
        waited_seconds=metrics.last.get("data_wait_seconds", 0.0),
        val_reduced=bool(losses) and bool(metrics.steps[last_step].get("val_reduced")),
    )


def _seconds_to_end(metrics: Metrics) -> float:
    """Seconds of the run until it ended, or until now. The same command given again to a finished run trains nothing, and its time
    does not count."""
    last = metrics.last.get("step", 0)
    ends = [event["seconds"] for event in metrics.events if event["event"] == "finished" and event["step"] == last]
    return min(ends, default=metrics.seconds)


def compare(promised: Promised, reached: Reached, *, is_finished: bool) -> list[Comparison]:
    """Each figure beside its promise, with the likely reason where it was not kept. Only a finished run is judged by its loss,
    hours and tokens."""
    slower = _is_below(reached.tokens_per_second, promised.tokens_per_second)
    reason = _reason(promised, reached, slower)
    rows = []
    if promised.val_loss is not None and reached.val_loss is not None:
        kept = _within(reached.val_loss, promised.val_loss) if is_finished and not reached.val_reduced else None
        note = "on few tokens, not comparable" if reached.val_reduced else "" if kept is not False else reason
        rows.append(
            Comparison(
                "val loss",
                _interval(promised.val_loss, lambda nats: f"{nats:.2f}"),
                f"{reached.val_loss:.4f}",
                kept,
                note,
            )
        )
    elif reached.val_loss is not None:
        why = "the loss law is of FineWeb in GPT-2's tokens"
        rows.append(Comparison("val loss", "not predicted", f"{reached.val_loss:.4f}", reason=why))
    if promised.hours is not None:
        kept = _is_timely(reached.hours, promised.hours) if is_finished else None
        text = _interval(promised.hours, lambda hours: duration(3600 * hours))
        rows.append(Comparison("time", text, duration(3600 * reached.hours), kept, reason if kept is False else ""))
    if promised.tokens is not None:
        kept = _tokens_kept(promised, reached) if is_finished else None
        rows.append(
            Comparison(
                "tokens", quantity(promised.tokens), quantity(reached.tokens), kept, reason if kept is False else ""
            )
        )
    if promised.tokens_per_second is not None and reached.tokens_per_second is not None:
        kept = _within(reached.tokens_per_second, promised.tokens_per_second)
        text = _interval(promised.tokens_per_second, lambda rate: figure(rate, 2))
        rows.append(
            Comparison("tokens/s", text, figure(reached.tokens_per_second, 2), kept, reason if kept is False else "")
        )
    if promised.peak_memory_gib is not None and reached.peak_memory_gib is not None:
        kept = None if promised.is_cpu else reached.peak_memory_gib <= promised.peak_memory_gib
        limit = f"{promised.peak_memory_gib:.2f} GiB" + (" of tensors" if promised.is_cpu else " at most")
        took = f"{reached.peak_memory_gib:.2f} GiB" + (" resident" if promised.is_cpu else "")
        rows.append(Comparison("memory", limit, took, kept))
    return rows


def _is_plan(plan: Any) -> bool:
    try:
        return isinstance(plan["predicted"], dict) and isinstance(plan["recipe"]["budget"], dict)
    except (KeyError, TypeError):
        return False


def _promised(plan: dict[str, Any]) -> Promised:
    of, gpu = plan["predicted"], plan.get("gpu") or {}
    is_cpu = gpu.get("capability") == "cpu"
    return Promised(
        val_loss=_read_interval(of.get("val_loss")),
        hours=_read_interval(of.get("hours")),
        tokens=of.get("tokens"),
        tokens_per_second=_read_interval(of.get("tokens_per_second")),
        peak_memory_gib=of.get("expected_allocated_gib" if is_cpu else "peak_memory_gib"),
        gpu=gpu.get("name"),
        is_cpu=is_cpu,
    )


def _read_interval(value: Any) -> Interval | None:
    return Interval(value["low"], value["mid"], value["high"]) if isinstance(value, dict) else None


def _interval(interval: Interval, written: Callable[[float], str]) -> str:
    if interval.low == interval.high:
        return written(interval.mid)
    return f"{written(interval.low)} to {written(interval.high)}"


def _within(value: float, interval: Interval) -> bool:
    return interval.low <= value <= interval.high


def _is_timely(hours: float, promised: Interval) -> bool:
    spare = max(TIMELY * promised.mid, TIMELY_SECONDS / 3600)
    return promised.low - spare <= hours <= promised.high + spare


def _is_below(value: float | None, interval: Interval | None) -> bool:
    return value is not None and interval is not None and value < interval.low


def _tokens_kept(promised: Promised, reached: Reached) -> bool:
    """Whether the run trained as many tokens as its hours and the bounds of its speed promise."""
    assert promised.tokens is not None
    speed, hours = promised.tokens_per_second, promised.hours
    if speed is None or hours is None or hours.low != hours.high:  # a run in steps or tokens
        return reached.tokens >= promised.tokens
    low, high = speed.low / speed.mid * promised.tokens, speed.high / speed.mid * promised.tokens
    return low <= reached.tokens <= high


def _reason(promised: Promised, reached: Reached, slower: bool) -> str:
    """The likely reason of a promise that was not kept."""
    waited = reached.waited_seconds
    if waited > NOTABLE_WAIT * 3600 * max(reached.hours, 1e-9):
        return f"waited {duration(waited)} for data"
    if slower:
        return "slower than predicted"
    if promised.tokens is not None and reached.tokens < promised.tokens and not slower:
        return "the run ended with fewer tokens"
    is_known = promised.tokens_per_second is not None and reached.tokens_per_second is not None
    return "faster than predicted" if is_known and not slower else ""
