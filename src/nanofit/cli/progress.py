"""How a journey's events look: a live bar in a terminal, plain lines elsewhere. All on stderr; stdout is for results."""

import gc
import sys
import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from nanofit import events
from nanofit.cli.units import duration, quantity, size

PLAIN_SECONDS = 5.0
"""At most one plain line of progress in this time; evaluations and notes always show."""


class Watcher:
    """Shows events as they come; use as a context manager around the work and pass it as `report`."""

    def __init__(self) -> None:
        self._console = _LastingConsole(stderr=True)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._bar: Progress | None = None
        self._task_kind = ""
        self._val_loss: float | None = None
        self._shown = 0.0

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
                self._say(f"[bold yellow]waiting:[/bold yellow] {escape(event.reason)}")
            case events.Preparing():
                self._preparing(event)
            case events.Evaluated():
                self._val_loss = event.val_loss
                self._say(f"step {event.step:,}: val loss {event.val_loss:.4f} after {duration(event.seconds)}")
            case events.Progress():
                self._progress(event)

    def _say(self, text: str) -> None:
        console = self._bar.console if self._bar is not None else self._console
        console.print(text, soft_wrap=True, highlight=False)

    def _preparing(self, event: events.Preparing) -> None:
        done = event.read_bytes >= event.total_bytes
        line = f"{size(event.read_bytes)} of {size(event.total_bytes)} read, {quantity(event.documents)} documents, "
        line += f"{quantity(event.tokens)} tokens"
        if self._live:
            self._update("preparing data", event.read_bytes, event.total_bytes, line)
        elif done or self._plain_is_due():
            self._say(f"preparing data: {line}")
        if done:
            self._end_bar()

    def _progress(self, event: events.Progress) -> None:
        facts = [f"loss {event.train_loss:.4f}"]
        if self._live and self._val_loss is not None:
            facts.append(f"val {self._val_loss:.4f}")
        facts.append(f"{quantity(event.tokens_per_second)} tok/s")
        if event.mfu is not None:
            facts.append(f"MFU {event.mfu:.0%}")
        if event.peak_memory_bytes:
            facts.append(size(event.peak_memory_bytes))
        left = None
        if event.steps is not None and event.tokens_per_second > 0:
            left = (event.steps - event.step) * event.tokens / event.step / event.tokens_per_second
            facts.append(f"{duration(left)} left")
        if self._live:
            self._update("training", event.step, event.steps, " · ".join(facts))
        elif self._plain_is_due() or event.step == event.steps:
            total = f" of {event.steps:,}" if event.steps is not None else ""
            self._say(f"step {event.step:,}{total}: {', '.join(facts)}")

    def _plain_is_due(self) -> bool:
        now = time.monotonic()
        if now - self._shown < PLAIN_SECONDS:
            return False
        self._shown = now
        return True

    def _update(self, kind: str, completed: float, total: float | None, text: str) -> None:
        if self._bar is None or self._task_kind != kind:
            self._end_bar()
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=18),
                _Count(),
                TextColumn("{task.fields[text]}"),
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


class _LastingConsole(Console):
    """A console whose reader may go away (`nanofit train 2>&1 | head`) without ending the work."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class _Count(ProgressColumn):
    """Steps done of all steps."""

    def render(self, task: Task) -> Text:
        if task.description != "training":
            return Text(f"{task.percentage:3.0f}%")
        return Text(f"{int(task.completed):,}/{int(task.total):,}" if task.total else f"{int(task.completed):,}")


def say(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr)
