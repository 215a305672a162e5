"""What a recipe takes and gives: counts, memory, speed, hours and loss, each by its own model in this room.

Without a machine only what can be counted is filled in; what is not modelled is None.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from nanofit.common.errors import UserError
from nanofit.config.architecture import count_parameters, flops_per_token, parameters
from nanofit.config.recipe import Recipe
from nanofit.data.preparing.source_facts import SourceFacts, facts_of, problem_of_length
from nanofit.hardware.execution import execution_on
from nanofit.planning.calibration import Calibration
from nanofit.planning.evaluations import FORWARD_SHARE, MAX_SHARE, Evaluations
from nanofit.planning.interval import Interval
from nanofit.planning.loss.law import expected_loss
from nanofit.planning.machine import Machine
from nanofit.planning.memory.card_memory import GIB, CardMemory, card_memory, guaranteed_bytes
from nanofit.planning.speed.step_time import mfu, tokens_per_second
from nanofit.planning.step import StepShape, step_shape

BYTES_PER_TOKEN_ON_DISK = 2

START_SECONDS = 90.0
"""Imports, compilation and the first batches, on a GPU: assumed, for nobody measured it yet."""

CPU_START_SECONDS = 4.0
"""On a CPU without compilation (docs/log.md, 2026-11-24)."""

CHECKPOINT_BYTES_PER_SECOND = 250e6
"""Until one was timed: written, put on disk and hashed (docs/log.md, 2026-11-24)."""

GAUGE_SPREAD = 2.0
"""The speed of a CPU that was not measured is the gauge's, divided and multiplied by this: half of it to twice it."""

HOST_BASE_GIB = 3.0
"""Of a process with CUDA's libraries loaded: assumed."""


@dataclass(frozen=True)
class Predicted:
    """What training the recipe takes and gives. Token and parameter counts, GiB, hours and nats; `unique_tokens` is what the
    source holds for training, `epochs` how often the run reads it."""

    params_total: int
    params_non_embedding: int
    tokens: int | None
    tokens_per_step: int
    steps: int | None
    flops: float | None
    disk_gib: float | None
    peak_memory_gib: float | None = None
    expected_allocated_gib: float | None = None
    memory_gib: dict[str, float] | None = None
    fits: bool | None = None
    tokens_per_second: Interval | None = None
    mfu: float | None = None
    hours: Interval | None = None
    val_loss: Interval | None = None
    host_memory_gib: float | None = None
    download_gib: float | None = None
    energy_kwh: float | None = None
    unique_tokens: float | None = None
    epochs: float | None = None

    def document(self) -> dict[str, Any]:
        """As `nanofit plan --json` prints it."""
        return asdict(self)


@dataclass(frozen=True)
class Pace:
    """Seconds of a run: before its first step, of a step, and what evaluations and checkpoints add to a step."""

    start: float
    step: float
    evaluation: float
    checkpoint: float

    @property
    def each(self) -> float:
        return self.step + self.evaluation + self.checkpoint

    def steps_in(self, hours: float) -> int:
        return int(max(3600 * hours - self.start, 0.0) / self.each)

    def hours_of(self, steps: int) -> float:
        return (self.start + steps * self.each) / 3600


def source_facts(recipe: Recipe) -> SourceFacts:
    """What is known of the recipe's source; that it is too short for the recipe's windows is a problem too."""
    data, block_size = recipe.data, recipe.model.block_size
    folder = Path(data.folder) if data.folder else None
    facts = facts_of(data.source, data.tokenizer, data.val_tokens, folder, data.characters)
    for split, tokens in (("train", facts.unique_tokens), ("val", facts.val_tokens)):
        too_short = problem_of_length(tokens * facts.max_factor, split, block_size) if tokens is not None else None
        if facts.problem is None and too_short is not None:
            return replace(facts, problem=problem_of_length(tokens or 0, split, block_size))
    return facts


def require_source(recipe: Recipe) -> None:
    """Raises UserError where the recipe's source is nothing that training could read."""
    problem = source_facts(recipe).problem
    if problem is not None:
        raise UserError(problem)


def predict(recipe: Recipe, machine: Machine | None = None, facts: SourceFacts | None = None) -> Predicted:
    """What `recipe` as it stands takes and gives on `machine`; `facts` are those of its source, if they are at hand."""
    facts = facts or source_facts(recipe)
    counted = _counted(recipe, recipe.steps, facts)
    if machine is None:
        return counted
    step = step_on(recipe, machine)
    memory = memory_on(step, machine)
    speed = speed_on(step, machine)
    expected = pace(recipe, speed.mid, machine)
    hours = recipe.budget.hours
    steps = recipe.steps or max(expected.steps_in(hours or 0.0), 1)
    took = Interval(hours, hours, hours) if hours is not None else _hours(recipe, steps, speed, machine)
    counted = _counted(recipe, steps, facts)
    peak_gib = memory.peak / GIB
    return replace(
        counted,
        peak_memory_gib=peak_gib,
        expected_allocated_gib=memory.allocated / GIB,
        memory_gib={name: size / GIB for name, size in memory.parts.items()},
        fits=peak_gib <= machine.budget_gib,
        tokens_per_second=speed,
        mfu=None if machine.is_cpu else mfu(step, machine.gpu, speed.mid, machine.cards),
        hours=took,
        val_loss=_loss(recipe, steps, speed, machine, facts),
        host_memory_gib=peak_gib if machine.is_cpu else HOST_BASE_GIB + 4 * counted.params_total * machine.cards / GIB,
        energy_kwh=machine.gpu.watts * machine.cards * took.mid / 1000 or None,
    )


def _hours(recipe: Recipe, steps: int, speed: Interval, machine: Machine) -> Interval:
    return speed.falling(lambda rate: pace(recipe, rate, machine).hours_of(steps))


def step_on(recipe: Recipe, machine: Machine) -> StepShape:
    """The step that each card takes: passes over micro-batches are shared among the cards."""
    hours = recipe.budget.hours
    execution = execution_on(
        machine.facts,
        recipe.run.precision,
        recipe.run.compile,
        training_seconds=3600 * hours if hours is not None else None,
        training_flops=training_flops(recipe),
    )
    step = step_shape(recipe, execution.precision, execution.compiles)
    return replace(step, grad_accum=ceil(step.grad_accum / machine.cards))


def training_flops(recipe: Recipe) -> float | None:
    """The model's FLOPs of the whole run; None while hours set its length."""
    if recipe.steps is None:
        return None
    return float(recipe.steps * recipe.tokens_per_step) * flops_per_token(recipe.model_config_of_run())


def measured_of(step: StepShape, machine: Machine) -> Calibration | None:
    """What was measured on the machine that says something of `step`."""
    return machine.calibration.of(step) if machine.calibration is not None else None


def memory_on(step: StepShape, machine: Machine) -> CardMemory:
    """The memory of `step` on each of the machine's cards."""
    return card_memory(step, **_card(step, machine))


def peak_on(step: StepShape, machine: Machine) -> float:
    """The bytes that are guaranteed to be enough for `step` on each card."""
    return guaranteed_bytes(step, **_card(step, machine))


def _card(step: StepShape, machine: Machine) -> dict[str, Any]:
    measured = measured_of(step, machine)
    return {
        "gpu": machine.gpu,
        "cards": machine.cards,
        "measured_over_predicted": measured.memory_ratio if measured is not None else None,
    }


def speed_on(step: StepShape, machine: Machine) -> Interval:
    """Training tokens a second of all the machine's cards, pauses left out; as measured where that is known."""
    predicted = tokens_per_second(step, machine.gpu, machine.cards)
    measured = measured_of(step, machine)
    if measured is not None:
        return measured.corrected(predicted)
    if machine.is_cpu:
        return Interval(predicted.mid / GAUGE_SPREAD, predicted.mid, predicted.mid * GAUGE_SPREAD)
    return predicted


def rests_on(recipe: Recipe, machine: Machine) -> str:
    """What the speed of `recipe` on `machine` rests on."""
    measured = measured_of(step_on(recipe, machine), machine)
    return machine.rests_on if measured is None else f"measurement: {measured.rests_on}"


def start_seconds(machine: Machine) -> float:
    """Seconds from the start of a run to its first step."""
    return CPU_START_SECONDS if machine.is_cpu else START_SECONDS


def pace(recipe: Recipe, rate: float, machine: Machine) -> Pace:
    """Where the seconds of a run go that trains at `rate` tokens per second."""
    step = recipe.tokens_per_step / rate
    checkpoint = checkpoint_bytes(recipe) / CHECKPOINT_BYTES_PER_SECOND / recipe.run.checkpoint_interval
    evaluations = Evaluations.asked(recipe)
    evaluation = evaluations.tokens * FORWARD_SHARE / rate / evaluations.interval
    if recipe.budget.hours is not None:  # training reduces them
        evaluation = min(evaluation, MAX_SHARE / (1 - MAX_SHARE) * (step + checkpoint))
    return Pace(start_seconds(machine), step, evaluation, checkpoint)


def _counted(recipe: Recipe, steps: int | None, facts: SourceFacts) -> Predicted:
    config = recipe.model_config_of_run()
    counts = count_parameters(config)
    tokens = steps * recipe.tokens_per_step if steps is not None else None
    checkpoints = (recipe.run.keep_checkpoints + 1) * checkpoint_bytes(
        recipe
    )  # the next is there before the oldest goes
    unique, download = facts.unique_tokens, facts.bytes_per_token
    held = min(tokens, ceil(unique or tokens)) if tokens is not None else 0  # repeats are read from the same shards
    written = 0 if facts.are_shards else held
    return Predicted(
        params_total=counts.total,
        params_non_embedding=counts.non_embedding,
        tokens=tokens,
        tokens_per_step=recipe.tokens_per_step,
        steps=steps,
        flops=float(tokens) * flops_per_token(config) if tokens is not None else None,
        disk_gib=None if tokens is None else (checkpoints + written * BYTES_PER_TOKEN_ON_DISK) / GIB,
        download_gib=held * download / GIB if tokens is not None and download is not None else None,
        unique_tokens=unique,
        epochs=tokens / unique if tokens is not None and unique else None,
    )


def checkpoint_bytes(recipe: Recipe) -> int:
    """The size of a checkpoint: each parameter in float32 and what the optimizer keeps of it, AdamW two moments (of a
    byte each in 8 bits), Muon one for a matrix."""
    optimizer = recipe.optimizer.optimizer
    moments = 2 if optimizer == "adamw8bit" else 8
    of_matrix = 4 if optimizer == "muon" else moments
    table = parameters(recipe.model_config_of_run())
    return sum(row.size * (4 + (of_matrix if row.kind == "matrix" else moments)) for row in table)


def has_loss_law(recipe: Recipe, facts: SourceFacts) -> bool:
    """Whether the loss law speaks of this recipe: FineWeb in GPT-2's tokens."""
    return recipe.data.tokenizer == "gpt2" and facts.is_fineweb


def _loss(recipe: Recipe, steps: int, speed: Interval, machine: Machine, facts: SourceFacts) -> Interval | None:
    if not has_loss_law(recipe, facts):
        return None
    config, settings = recipe.model_config_of_run(), recipe.optimizer_settings
    share = final_rate_share(recipe, steps)

    def after(trained: int) -> Interval:
        return expected_loss(
            config,
            settings.optimizer,
            tokens=max(trained, 1) * recipe.tokens_per_step,
            tokens_per_step=recipe.tokens_per_step,
            learning_rate=settings.learning_rate,
            final_rate_share=share,
            unique_tokens=facts.unique_tokens,
        )

    expected = after(steps)
    if recipe.budget.hours is None:
        return expected
    return widened(expected, after, steps_within(recipe, speed, recipe.budget.hours, machine))


def final_rate_share(recipe: Recipe, steps: int) -> float:
    """The learning rate after `steps` steps over its peak: 0 where the decay is finished."""
    return recipe.schedule_over(steps).learning_rate(steps) / recipe.optimizer_settings.learning_rate


def steps_within(recipe: Recipe, speed: Interval, hours: float, machine: Machine) -> tuple[int, int]:
    """The fewest and the most steps that fit into `hours`, by the bounds of the speed: a slower card sees fewer tokens."""
    fewest, most = (pace(recipe, rate, machine).steps_in(hours) for rate in (speed.low, speed.high))
    return fewest, most


def widened(expected: Interval, after: Callable[[int], Interval], steps: tuple[int, int]) -> Interval:
    """The loss `expected`, its bounds widened to what it is `after` the fewest and after the most steps."""
    fewest, most = steps
    return Interval(min(after(most).low, expected.mid), expected.mid, max(after(fewest).high, expected.mid))
