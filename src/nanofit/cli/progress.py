"""Shows the events of a command at work: a live bar in a terminal, plain lines elsewhere. All on stderr; stdout is for results."""

import gc
import sys
import time
from collections import deque
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from nanofit.common import events
from nanofit.common.units import duration, quantity, size

PLAIN_SECONDS = 5.0
"""At most one plain line of progress in this time; evaluations and notes always show."""

RATE_SECONDS = 15.0
"""Speeds are measured over so many last seconds, since a network's speed changes."""


class Watcher:
    """Shows events as they come; use as a context manager around the work and pass it as `report`."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._bar: Progress | None = None
        self._task_kind = ""
        self._figures = ""  # of the newest line of training
        self._val_loss: float | None = None
        self._shown = 0.0
        self._rate = PreparingRate()
        self._is_prepared = False

    def __enter__(self) -> "Watcher":
        gc.enable()  # `main` disabled it; in a long job, cycles of objects may hold tensors
        return self

    def __exit__(self, *exception: object) -> None:
        self._end_bar()

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.Note():
                self._say(f"[yellow]{escape(event.text)}[/yellow]" if event.warning else escape(event.text))
            case events.Waiting():
                self._waiting(event)
            case events.Activity():
                self._activity(event.doing)
            case events.Preparing():
                self._preparing(event)
            case events.Verifying():
                self._verifying(event)
            case events.Evaluated():
                self._val_loss = event.val_loss
                self._say(f"step {event.step:,}: val loss {event.val_loss:.4f} after {duration(event.seconds)}")
            case events.Progress():
                self._progress(event)

    def _say(self, text: str) -> None:
        console = self._bar.console if self._bar is not None else self._console
        console.print(text, soft_wrap=not self._live, highlight=False)  # a terminal gets whole words

    def _waiting(self, event: events.Waiting) -> None:
        if not event.passes:
            self._say(f"[bold yellow]waiting:[/bold yellow] {escape(event.reason)}")
        elif not self._live:
            self._say(escape(event.reason))
        else:
            self._beside_training(event.reason)

    def _activity(self, doing: str) -> None:
        if self._live:
            self._beside_training(doing or self._figures)
        elif doing and self._plain_is_due():
            self._say(escape(doing))

    def _beside_training(self, text: str) -> None:
        """Shows `text` in training's bar, or in a bar of its own where training has none yet; "" ends that one."""
        if self._bar is not None and self._task_kind == "training":
            self._bar.update(self._bar.task_ids[0], text=text)
        elif text:
            self._update("", 0, None, text)
        elif self._task_kind == "":
            self._end_bar()

    def _preparing(self, event: events.Preparing) -> None:
        self._rate.add(event)
        target = event.target_tokens
        is_done = event.read_bytes >= event.total_bytes or (target is not None and event.tokens >= target)
        share = min(1.0, event.tokens / target) if target else event.read_bytes / max(event.total_bytes, 1)
        facts, where = self._rate.facts(event), self._rate.remaining(event)
        if self._live:
            width = self._text_width("preparing", "100%")
            lines = (_fitted(_ranked(line), width) for line in (facts, where))
            self._update("preparing", share, 1.0, "\n".join(lines))
        elif self._plain_is_due() or (is_done and not self._is_prepared):
            self._say(f"preparing data: {', '.join([*facts, *where])}")
        if is_done and target is None:  # training's tokens alone are counted towards a target: more may come
            self._end_bar()
        self._is_prepared = is_done

    def _verifying(self, event: events.Verifying) -> None:
        line = f"{event.doing}: {size(event.done_bytes)} of {size(event.total_bytes)}"
        if self._live:
            self._update("verifying", event.done_bytes, event.total_bytes, line)
        elif self._plain_is_due():
            self._say(f"verifying: {line}")

    def _progress(self, event: events.Progress) -> None:
        facts = [(0, f"loss {event.train_loss:.4f}")]
        if self._live and self._val_loss is not None:
            facts.append((3, f"val {self._val_loss:.4f}"))
        facts.append((2, f"{quantity(event.tokens_per_second)} tok/s"))
        if event.mfu is not None:
            facts.append((5, f"MFU {event.mfu:.0%}"))
        if event.peak_memory_bytes:
            facts.append((6, size(event.peak_memory_bytes)))
        if event.steps is not None and event.tokens_per_second > 0:
            left = (event.steps - event.step) * event.tokens / event.step / event.tokens_per_second
            facts.append((1, f"{duration(left)} left"))
        if event.data_wait_seconds > 1:
            facts.append((4, f"{duration(event.data_wait_seconds)} waiting for data"))
        if self._live:
            self._figures = _fitted(facts, self._text_width("training", _count(event.step, event.steps)))
            self._update("training", event.step, event.steps, self._figures)
        elif self._plain_is_due() or event.step == event.steps:
            total = f" of {event.steps:,}" if event.steps is not None else ""
            self._say(f"step {event.step:,}{total}: {', '.join(text for _, text in facts)}")

    def _text_width(self, kind: str, count: str) -> int:
        """The columns left for the bar's text beside its description and `count`, with a space between columns."""
        beside = (len(self._description(kind)), self._bar_width(), len(count))
        return self._console.width - sum(width + 1 for width in beside if width)

    def _description(self, kind: str) -> str:
        return kind if self._console.width >= 100 else ""

    def _bar_width(self) -> int:
        return 18 if self._console.width >= 100 else 10 if self._console.width >= 70 else 4

    def _plain_is_due(self) -> bool:
        now = time.monotonic()
        if now - self._shown < PLAIN_SECONDS:
            return False
        self._shown = now
        return True

    def _update(self, kind: str, completed: float, total: float | None, text: str) -> None:
        if self._bar is None or self._task_kind != kind:
            self._end_bar()
            description = self._description(kind)
            columns = (
                *([TextColumn(description)] if description else []),
                BarColumn(bar_width=self._bar_width()),
                _Count(),
                TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=False)),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
            self._bar.add_task(kind, total=total, text=text)
            self._task_kind = kind
        self._bar.update(self._bar.task_ids[0], completed=completed, total=total, text=text)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class PreparingRate:
    """How fast text becomes shards, over the last RATE_SECONDS, and the time left. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._past: deque[tuple[float, events.Preparing]] = deque()

    def add(self, event: events.Preparing) -> None:
        now = self._clock()
        self._past.append((now, event))
        while self._past[0][0] < now - RATE_SECONDS and len(self._past) > 2:
            self._past.popleft()

    def facts(self, event: events.Preparing) -> list[str]:
        """What is written at `event`, the last one added, and how fast it grows."""
        facts = [f"{quantity(event.tokens)} tokens", f"{quantity(event.documents)} documents"]
        began, first = self._past[0]
        seconds = self._past[-1][0] - began
        if seconds > 0 and event.text_bytes > first.text_bytes:
            speed = (event.text_bytes - first.text_bytes) / seconds / 1e6
            facts.append(f"{speed:.0f} MB/s of text" if speed >= 100 else f"{speed:.3g} MB/s of text")
        return facts

    def remaining(self, event: events.Preparing) -> list[str]:
        """The time left, the slowest stage, and how far the source is read."""
        began, first = self._past[0]
        if event.target_tokens is not None:
            left, gained = event.target_tokens - event.tokens, event.tokens - first.tokens
        else:
            left, gained = event.total_bytes - event.read_bytes, event.read_bytes - first.read_bytes
        remaining = []
        if left > 0 and gained > 0:
            remaining.append(f"{duration(left * (self._past[-1][0] - began) / gained)} left")
        if left > 0 and event.slowest and gained > 0:
            slowest = "network" if event.is_download and event.slowest == "reading" else event.slowest
            remaining.append(f"slowest: {slowest}")
        verb = "downloaded" if event.is_download else "read"
        return [*remaining, f"{size(event.read_bytes)} of {size(event.total_bytes)} {verb}"]


class _Count(ProgressColumn):
    """Steps done of all steps."""

    def render(self, task: Task) -> Text:
        if not task.description:
            return Text("")
        if task.description != "training":
            return Text(f"{task.percentage:3.0f}%")
        return Text(_count(int(task.completed), int(task.total) if task.total else None))


def _count(step: int, steps: int | None) -> str:
    return f"{step:,}/{steps:,}" if steps else f"{step:,}"


def _fitted(facts: list[tuple[int, str]], width: int) -> str:
    """`facts` joined in their order. Where they exceed `width` columns, those of the highest ranks are left out."""
    kept = sorted(facts, key=lambda fact: fact[0])
    while len(kept) > 1 and len(_joined(kept)) > width:
        kept.pop()
    return _joined([fact for fact in facts if fact in kept])


def _joined(facts: list[tuple[int, str]]) -> str:
    return " · ".join(text for _, text in facts)


def _ranked(facts: list[str]) -> list[tuple[int, str]]:
    """Facts of preparing data with their ranks: documents and the slowest stage are left out first."""
    return [(text.endswith("documents") or text.startswith("slowest"), text) for text in facts]


def say(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr)
