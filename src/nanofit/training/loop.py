"""The loop of a run: steps, and between two steps what is due: a line, a checkpoint, an evaluation, an end.

Everything is saved before anything that may fail for long, such as an evaluation; and everything that a later step
depends on follows from the step's number, so a run that was stopped anywhere goes on as if it had not been.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

import nanofit
from nanofit.common.errors import Stopped, UserError
from nanofit.common.events import Activity, Evaluated, Note, Progress, Report, Waiting
from nanofit.config.architecture import flops_per_token
from nanofit.config.checkpoint_state import TrainingState
from nanofit.config.recipe import Recipe
from nanofit.config.run_folder import Metrics, MetricsLog, RunFolder
from nanofit.data.loading.batches import WAIT_SECONDS
from nanofit.data.loading.training_data import TrainingData
from nanofit.device.torch_device import Device
from nanofit.evaluation.validation import evaluating, validate
from nanofit.planning.predict import CHECKPOINT_BYTES_PER_SECOND, checkpoint_bytes
from nanofit.training.checkpoint import remove_old_checkpoints, save_checkpoint
from nanofit.training.disk import when_there_is_space
from nanofit.training.evaluation_budget import EVENT, EvaluationBudget
from nanofit.training.health import SpikeWatch
from nanofit.training.horizon import Change, Horizon, notes_of_change
from nanofit.training.interrupts import StopRequest
from nanofit.training.step import StepResult, TrainStep
from nanofit.training.time_budget import TimeBudget
from nanofit.training.tracking import Tracking

if TYPE_CHECKING:
    from nanofit.data.loading.stream import TokenStream

LATE_SECONDS = 10.0
"""While data is late, this is said so often."""


class _StopAsked(Exception):
    """A stop was requested while data was waited for, or between two batches of an evaluation."""


@dataclass
class Speed:
    """Steps and seconds since the last line, pauses for evaluation and saving left out."""

    tokens: int = 0
    seconds: float = 0.0
    since: float = field(default_factory=time.perf_counter)

    def resume(self) -> None:
        self.since = time.perf_counter()

    def pause(self) -> None:
        self.seconds += time.perf_counter() - self.since

    def take(self) -> float:
        """Tokens a second since the last call."""
        rate = self.tokens / self.seconds if self.seconds > 0 else 0.0
        self.tokens, self.seconds = 0, 0.0
        return rate


class TrainingLoop:
    """Trains one run from `step` to its end. `past` is what its metrics said when this process took it over and `seconds`
    its age then; `clock` is a clock of seconds that agrees with nanofit.STARTED."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        device: Device,
        train_step: TrainStep,
        feed: TrainingData,
        log: MetricsLog,
        past: Metrics,
        tracking: Tracking,
        report: Report,
        stop: StopRequest,
        *,
        step: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run_folder, self.recipe, self.device, self.train_step = run, recipe, device, train_step
        self.model = train_step.model
        self.step = step
        self.horizon = Horizon(recipe, past.events)
        self.evaluations = EvaluationBudget(recipe, past.events, lambda: self.seconds)
        self.val_loss: float | None = None
        self.val_reduced = False
        self._feed, self._log, self._tracking, self._report, self._stop = feed, log, tracking, report, stop
        self._clock = clock
        self._seconds_before = seconds
        self._line: dict[str, Any] = past.steps.get(step, {})
        self._result: StepResult | None = None
        self._losses: list[Tensor] = []  # of the steps since the last line, on the device
        self._spikes = SpikeWatch()
        self._saved_step = step
        self._speed = Speed()
        self._time_budget: TimeBudget | None = None
        self._owes_evaluation = False  # one was due when its data was not there
        self._validation: TokenStream | None = None
        self._waited, self._is_late = 0.0, False
        self._told_late: float | None = None
        self._noted_steps = self.horizon.newest.steps if self.horizon.newest is not None else None
        self._compiles_forward, self._has_first_line = device.compile, False
        self._flops_per_token = flops_per_token(train_step.model.config)
        self._peak_flops = device.peak_flops()

    @property
    def seconds(self) -> float:
        """Wall-clock of the run over all its lives, but for those before the first that saved a step."""
        return self._seconds_before + self._clock() - nanofit.STARTED

    def run(self, batches: Iterator[Tensor]) -> None:
        """Trains to the end. Raises Stopped, with everything saved, when asked to stop."""
        self.model.train()
        self._write_event("resumed" if self.step else "started")
        if self.recipe.budget.hours is not None:
            self._time_budget = TimeBudget(
                self.recipe,
                self.horizon,
                lambda: self.seconds,
                self.device.synchronize,
                self.evaluations,
                first_step=self.step,
                compiles=self.device.compile,
                checkpoint=checkpoint_bytes(self.recipe) / CHECKPOINT_BYTES_PER_SECOND,
            )
        while True:
            self._between_steps()
            if self.step == self.horizon.steps(self.step):
                self._write_event("finished")
                return
            rows = self.device.move(self._next(batches))
            share, measures = self.horizon.multiplier(self.step), self._has_line(self.step + 1)
            if not self._has_first_line:
                self._report(Activity(self._first_steps()))
            self._result = self.train_step(rows, share, self.step, measures=measures)
            self._losses.append(self._result.loss)
            self.step += 1
            self._line = {}
            self._speed.tokens += self.recipe.tokens_per_step
            self._speed.pause()
            self._feed.release()

    def _next(self, batches: Iterator[Tensor]) -> Tensor:
        """The next step's rows. A wait for data that is not prepared yet is no step's, but it is in the run's hours."""
        begin, self._is_late = self._clock(), False
        self._speed.resume()
        try:
            with self._saved_if_data_is_bad():
                return next(batches)
        except _StopAsked:
            self._save_and_stop()
        finally:
            if self._is_late:
                self._leave_out(self._clock() - begin)
                self._report(Activity())

    def _leave_out(self, seconds: float) -> None:
        self._waited += seconds
        self._speed.resume()
        if self._time_budget is not None:
            self._time_budget.leave_out(seconds)

    def data_is_late(self) -> None:
        """Called again and again, on this thread, while a step's data is not there."""
        self._is_late = True
        if self._stop.requested:
            raise _StopAsked
        now = self._clock()
        if self._told_late is None or now - self._told_late > LATE_SECONDS:
            self._told_late = now
            self._report(Waiting(f"waiting for data: {self._feed.state}", passes=True))

    def _between_steps(self) -> None:
        settings = self.recipe.run
        if self._time_budget is not None:
            self._keep_hours(self._time_budget)
        last = self._is_due(self.step)
        evaluates = self._is_due(self.step, self.evaluations.interval)
        saves = self._is_due(self.step, settings.checkpoint_interval)
        if self._result is not None and self._has_line(self.step):
            self._write_progress(self._result)
        if saves:
            self._save()
        if self._stop.requested:
            self._save_and_stop()
        self._owes_evaluation |= evaluates and "val_loss" not in self._line
        if self._owes_evaluation and self._has_validation(last):
            self._evaluate()
        if last:
            self.val_loss = self._line.get("val_loss")
            self.val_reduced = self._line.get("val_reduced", False)

    def _has_validation(self, last: bool) -> bool:
        """Whether validation's data is there. Training does not wait for it; only the end of the run does."""
        begin = self._clock()
        while self._validation is None:
            with self._saved_if_data_is_bad():
                self._validation = self._feed.validation()
            if self._validation is None and not last:
                return False
            if self._validation is None:
                self._feed.release()  # a run that was resumed at its end takes no step that would do so
                try:
                    self.data_is_late()
                except _StopAsked:
                    self._save_and_stop()
                self._stop.wait(WAIT_SECONDS)
        if last:
            self._waited += self._clock() - begin
        return True

    def _first_steps(self) -> str:
        """What is being done before there is a line with figures."""
        if self.device.compile and self._result is None:
            return "compiling the training step"
        return f"training: step {self.step + 1:,}"

    def _has_line(self, step: int) -> bool:
        """Whether the step that ends at `step` is logged, as known before and after it."""
        settings = self.recipe.run
        return self._is_due(step, settings.log_interval, settings.eval_interval, settings.checkpoint_interval)

    def _is_due(self, step: int, *intervals: int) -> bool:
        """Whether `step` ends one of `intervals`, or the run."""
        return step == self.horizon.steps(step) or any(step % interval == 0 for interval in intervals)

    def _keep_hours(self, time_budget: TimeBudget) -> None:
        """Moves the horizon when that is due."""
        change = time_budget.review(self.step, evaluated="val_loss" in self._line, saved=self.step == self._saved_step)
        if change is not None:
            newest = self.horizon.newest
            if newest is None or newest.hours != change.hours:
                self._set_eval_interval(change.costs.step)
            self._write_event("horizon", **change.fields())
            self.horizon.change(change)
            self._report_horizon(change)

    def _set_eval_interval(self, seconds_per_step: float) -> None:
        fixed = self.evaluations.fix_interval(seconds_per_step)
        if fixed is not None:
            self._write_event(EVENT, **fixed)
            for note in self.evaluations.notes_on_interval():
                self._report(note)

    def _report_horizon(self, change: Change) -> None:
        notes = notes_of_change(change, self._noted_steps, self.horizon, self.recipe)
        for note in notes:
            self._report(note)
        if notes:
            self._noted_steps = change.steps

    def _write_progress(self, result: StepResult) -> None:
        self._speed.resume()
        losses = torch.stack(self._losses).tolist()  # waits for the device, so its time counts as the steps'
        self._speed.pause()
        spikes = self._check(losses)
        tokens_per_second = self._speed.take()
        mfu = tokens_per_second * self._flops_per_token / self._peak_flops if self._peak_flops else None
        progress = Progress(
            step=self.step,
            steps=self.horizon.steps(self.step),
            tokens=self.step * self.recipe.tokens_per_step,
            train_loss=losses[-1],
            learning_rate=self.horizon.learning_rate(self.step - 1),
            tokens_per_second=tokens_per_second,
            mfu=mfu,
            peak_memory_bytes=self.device.peak_memory_bytes(),
            seconds=self.seconds,
            data_wait_seconds=self._waited,
        )
        self._line = asdict(progress) | {
            "grad_norm": result.grad_norm.item() if result.grad_norm is not None else None,
            **{f"update_ratio_{kind}": ratio.item() for kind, ratio in result.update_ratios.items()},
            "loss_spikes": spikes,
        }
        del self._line["steps"]  # the run's, not the step's: events carry it
        self._result, self._losses, self._has_first_line = None, [], True
        self._write(self._line)
        self._track(self._line)
        self._report(progress)

    def _check(self, losses: list[float]) -> int:
        """Looks at the losses since the last line; returns how many jumped. Raises UserError for one that is no number."""
        first = self.step - len(losses) + 1
        for step, loss in enumerate(losses, first):
            if not math.isfinite(loss):
                raise UserError(
                    f"the loss became {loss} at step {step}: the run diverged; start over (--fresh) with a lower "
                    "learning_rate, or a longer warmup_steps"
                )
        spikes = self._spikes.find(first, losses)
        for spike in spikes:
            jump = f"the loss jumped to {spike.loss:.3f} at step {spike.step:,}, from around {spike.usual:.3f}"
            self._report(Note(f"{jump}: if it does not come back, a lower learning_rate helps", warning=True))
        return len(spikes)

    def _save(self) -> None:
        if self.step == self._saved_step:
            return
        state = TrainingState(self.step, self.seconds, self._feed.data_state, self.train_step.scaler.state_dict())
        optimizer = self.train_step.optimizer

        def save() -> None:
            begin = self._clock()
            save_checkpoint(self.run_folder, self.model, optimizer, state, self.recipe)
            remove_old_checkpoints(self.run_folder, self.recipe.run.keep_checkpoints)
            if self._time_budget is not None:
                self._time_budget.checkpoint = self._clock() - begin

        what = f"the checkpoint of step {self.step}"
        self._report(Activity(f"saving {what}"))
        with self._pause():
            when_there_is_space(save, what, self.run_folder.path, self._report, self._stop)
        self._report(Activity())
        self._saved_step = self.step

    def _save_all(self) -> None:
        """Saves what there is since the last line and the last checkpoint."""
        if self._result is not None:
            self._write_progress(self._result)
        self._save()

    def _save_and_stop(self) -> NoReturn:
        self._save_all()
        assert self._stop.signal_number is not None
        raise Stopped(self._stop.signal_number)

    @contextmanager
    def _saved_if_data_is_bad(self) -> Iterator[None]:
        """Within it data is read. Where that fails, the run is saved as it is for a stop, and goes on once the data is mended."""
        try:
            yield
        except UserError:
            self._save_all()
            if self.step:
                self._report(Note(f"the run is saved at step {self.step:,}"))
            raise

    def _pause(self) -> AbstractContextManager[None]:
        return self._time_budget.pause() if self._time_budget is not None else nullcontext()

    def _evaluate(self) -> None:
        assert self._validation is not None
        self._owes_evaluation = False
        self.model.eval()
        try:
            with self._pause(), self._saved_if_data_is_bad():
                result = validate(
                    self.train_step.window_losses,
                    self._validation,
                    self.device,
                    block_size=self.recipe.model.block_size,
                    micro_batch=self.recipe.batch.micro_batch,
                    most_tokens=self.evaluations.tokens,
                    between_batches=self._between_batches,
                )
        except _StopAsked:
            self._save_and_stop()
        finally:
            self.model.train()
            self._report(Activity())
        fixed = self.evaluations.fix_tokens(result.tokens)
        if fixed is not None:
            self._write_event(EVENT, **fixed)
            for note in self.evaluations.notes_on_tokens():
                self._report(note)
        figures = {
            "val_loss": result.loss,
            "val_loss_stderr": result.stderr,
            "val_bits_per_byte": result.bits_per_byte,
            "val_tokens": result.tokens,
            "val_reduced": self.evaluations.is_reduced,
        }
        place = {"step": self.step, "tokens": self.step * self.recipe.tokens_per_step}
        self._line = place | self._line | figures | {"seconds": self.seconds}
        self._write(self._line)
        self._track(figures)
        self._report(Evaluated(self.step, result.loss, self.seconds))

    def _between_batches(self, tokens: int, total: int) -> int | None:
        if self._stop.requested:
            raise _StopAsked
        self.device.synchronize()  # so that the clock and the progress bar count finished batches only
        compiles = tokens == 0 and self._compiles_forward
        self._report(Activity("compiling the forward pass") if compiles else evaluating(tokens, total))
        self._compiles_forward = False
        return self.evaluations.between_batches(tokens, total)

    def note_end(self, error: BaseException) -> None:
        """Writes why this process ends before the run does: "stopped" for a signal, "failed" for all else. Where even that
        can't be written, the process ends without it."""
        is_stop = isinstance(error, (Stopped, KeyboardInterrupt))
        reason = str(error) or ("stopped by SIGINT" if is_stop else type(error).__name__)
        if is_stop and self._is_late:
            reason += f" while waiting for data: {self._feed.state}"
        with suppress(OSError):
            self._log.append(self._event("stopped" if is_stop else "failed") | {"reason": reason}, durable=True)

    def _event(self, name: str) -> dict[str, Any]:
        return {"event": name, "step": self.step, "steps": self.horizon.steps(self.step), "seconds": self.seconds}

    def _write_event(self, name: str, **more: float) -> None:
        """An event, on disk before anything follows from it."""
        self._write(self._event(name) | more, durable=True)

    def _write(self, line: dict[str, Any], durable: bool = False) -> None:
        with self._pause():  # a wait for space is not the steps'
            when_there_is_space(
                lambda: self._log.append(line, durable), "metrics.jsonl", self.run_folder.path, self._report, self._stop
            )

    def _track(self, line: dict[str, Any]) -> None:
        """Gives the figures of `line` to the second log; each figure of a step once."""
        figures = {
            name: float(value) for name, value in line.items() if isinstance(value, (int, float)) and name != "step"
        }
        self._tracking.log(self.step, figures)


def out_of_memory(error: torch.OutOfMemoryError, recipe: Recipe) -> UserError:
    """What a user can do about it."""
    batch = recipe.batch
    mend = (
        f"--micro_batch={batch.micro_batch // 2} --grad_accum={2 * batch.grad_accum}"
        if batch.micro_batch > 1
        else "a smaller block_size or model"
    )
    return UserError(f"the device ran out of memory: start again with {mend} ({str(error).splitlines()[0]})")
