"""Chooses the recipe: among shapes, micro-batches, accumulation, checkpointing and optimizers, the lowest expected final loss
that fits the card's guaranteed memory and the budget.

Shapes are tried in the order of the loss that they could reach if memory were no matter; the search ends when no shape
left could beat the best one that fits, so nothing better is missed among those tried. All settings that the
user pinned stay.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from nanofit.common.errors import UserError
from nanofit.common.units import counted, hours_text
from nanofit.config.architecture import ModelConfig, flops_per_token
from nanofit.config.recipe import loss_chunk_tokens
from nanofit.config.vocabulary import vocabulary_of
from nanofit.data.preparing.source_facts import SourceFacts
from nanofit.hardware.execution import execution_on
from nanofit.planning.loss.law import VOCABULARY_ROWS, expected_loss, law_parameters
from nanofit.planning.loss.repetition import MAX_EPOCHS, MAX_PARAMETERS_PER_TOKEN
from nanofit.planning.machine import Machine
from nanofit.planning.memory.card_memory import GIB
from nanofit.planning.predict import memory_on, peak_on, speed_on, start_seconds
from nanofit.planning.rules import block_parameters, recommended_tokens_per_step
from nanofit.planning.step import StepShape

MIN_TOKENS_PER_PARAMETER = 8
"""Below it no run behind the loss law lies; 8 to 12 is compute-optimal for Muon."""

MIN_STEPS = 200

BLOCK_SIZE = 1024
"""The context of the runs behind the loss law."""

MIN_BLOCK_SIZE = 64
CPU_BLOCK_SIZE = 256
"""On a CPU, where models are small and attention over 1024 tokens would take as long as all matrices."""

TRAINING_SHARE = 0.98
"""Of the hours; evaluations and checkpoints take the rest (`settings_of_run`)."""

DEPTHS = (4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 44, 48, 56, 64)
WIDTHS = tuple(range(256, 4097, 128))
SMALL_WIDTHS = (128, 192)
"""Tried besides, on a CPU and where the text is too little for the smallest usual shape."""
WIDTH_OVER_DEPTH = (32, 128)
"""Shapes like those of the runs behind the loss law, which knows no depth: 30 to 64 there, GPT-2's 33 to 64. Wider ones
train faster for their size, but little is known of what they lose."""

CPU_MICRO_BATCH_TOKENS = 8192
"""On a CPU: larger micro-batches take gigabytes for a model of a few million parameters."""

MICRO_BATCHES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128)
CHECKPOINTING = ("off", "half", "all")
OPTIMIZERS = ("muon", "adamw", "adamw8bit")


@dataclass(frozen=True)
class Goal:
    """What the search is for: a machine, a budget of hours or of tokens, what the user pinned, by our names, and what is known of
    the source."""

    machine: Machine
    hours: float | None
    tokens: int | None
    pinned: dict[str, Any] = field(default_factory=dict)
    facts: SourceFacts = field(default_factory=SourceFacts)

    @property
    def block_size(self) -> int:
        """The context: the usual one, halved until validation has two windows of it."""
        usual, val_tokens = CPU_BLOCK_SIZE if self.machine.is_cpu else BLOCK_SIZE, self.facts.val_tokens
        while val_tokens is not None and usual > MIN_BLOCK_SIZE and val_tokens < 2 * usual:
            usual //= 2
        return self.pinned.get("block_size", usual)

    @property
    def useful_tokens(self) -> float:
        """The tokens beyond which a run in hours would only repeat its text in vain."""
        unique = self.facts.unique_tokens
        return float("inf") if self.tokens is not None or unique is None else MAX_EPOCHS * unique

    def tokens_at(self, rate: float) -> float:
        """Tokens that the budget buys at `rate` tokens per second, as far as they are of use."""
        if self.tokens is not None:
            return float(self.tokens)
        assert self.hours is not None
        bought = max(3600 * self.hours - start_seconds(self.machine), 0.0) * TRAINING_SHARE * rate
        return min(bought, self.useful_tokens)

    def teaches(self, shape: ModelConfig) -> bool:
        """Whether the text is enough for a model of this shape, or its length unknown."""
        unique = self.facts.unique_tokens
        return unique is None or block_parameters(shape) <= MAX_PARAMETERS_PER_TOKEN * unique


@dataclass(frozen=True)
class Candidate:
    """A step that was considered, the tokens that it would see and the loss expected of it, nats per token."""

    step: StepShape
    tokens: float
    loss: float

    @cached_property
    def simplicity(self) -> tuple[int, ...]:
        """Smaller is simpler: the tie-break between equal losses."""
        step = self.step
        return (
            OPTIMIZERS.index(step.optimizer),
            CHECKPOINTING.index(step.checkpointing),
            law_parameters(step.config),
            step.config.n_layer,
            step.grad_accum,
        )

    @property
    def tokens_per_parameter(self) -> float:
        return self.tokens / law_parameters(self.step.config)


class Search:
    """The search for one goal. `best` is its answer; the other methods find what is worth showing beside it."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self._min_steps = MIN_STEPS
        self._bounds: dict[ModelConfig, float] = {}
        self._rates: dict[ModelConfig, float] = {}
        self._sizes: dict[StepShape, list[int]] = {}

    def in_hours(self, hours: float) -> "Search":
        """The same search with another budget; what it found out about speed and memory is shared."""
        other = Search(replace(self.goal, hours=hours, tokens=None))
        other._shapes, other._rates, other._sizes = self._shapes, self._rates, self._sizes
        return other

    @cached_property
    def best(self) -> Candidate:
        """The candidate with the lowest loss among those with enough tokens and steps.

        Where the pins or a small budget leave none, fewer steps are accepted, then fewer tokens per parameter, then a step
        that is expected to fit but not guaranteed to: what was asked for is planned, and `plan_warnings.py` says so. Raises
        UserError where not even that is possible.
        """
        for min_steps in (MIN_STEPS, 1):
            self._min_steps = min_steps
            found = self._best_of(self._shapes)
            if found is not None:
                break
        else:
            return self._smallest()
        while True:  # from there to its neighbours, as long as one is better
            better = self._best_of(self._neighbours(found.step.config), found)
            if better is None or better is found:
                return found
            found = better

    def _smallest(self) -> Candidate:
        """The best candidate of the smallest shape, whatever its tokens per parameter."""
        shape = min(self._shapes, key=law_parameters)
        fitting = list(self.fitting(shape)) or list(self._with_batches(self._smallest_step(shape)))
        step = fitting[0].step
        if memory_on(step, self.goal.machine).least > self.goal.machine.budget_gib * GIB:
            raise self._needs_memory(step)
        trainable = [candidate for candidate in fitting if candidate.tokens >= self._fewest_tokens(candidate.step)]
        if not trainable:
            raise self._needs_budget(step)
        return min(trainable, key=lambda candidate: (candidate.loss, candidate.simplicity))

    def _smallest_step(self, shape: ModelConfig) -> StepShape:
        """The step of this shape that needs the least memory."""
        pinned = self.goal.pinned
        steps = [
            self._step(shape, optimizer, pinned.get("checkpointing", "all"), pinned.get("micro_batch", 1))
            for optimizer in ([pinned["optimizer"]] if "optimizer" in pinned else OPTIMIZERS)
        ]
        return min(steps, key=lambda step: peak_on(step, self.goal.machine))

    def _fewest_tokens(self, step: StepShape) -> int:
        """The tokens without which there is no run: of one step, or of one window where a budget of tokens is rounded up to a step."""
        return (
            step.config.block_size if self.goal.tokens is not None else step.tokens_per_step * self.goal.machine.cards
        )

    def _has_enough(self, candidate: Candidate) -> bool:
        steps = candidate.tokens / (candidate.step.tokens_per_step * self.goal.machine.cards)
        return self._are_enough(candidate.tokens, candidate.step.config) and steps >= self._min_steps * 0.999

    def _are_enough(self, tokens: float, shape: ModelConfig) -> bool:
        """Whether a model of this shape gets as many tokens per parameter as the runs behind the law, or all that its text is good
        for."""
        return tokens / law_parameters(shape) >= MIN_TOKENS_PER_PARAMETER or tokens >= self.goal.useful_tokens

    @property
    def is_limited_by_text(self) -> bool:
        """Whether the best plan would be larger or longer if there were more text."""
        shape, unique = self.best.step.config, self.goal.facts.unique_tokens
        deeper = self._shape(shape.n_layer + 1, shape.n_embd)
        return unique is not None and (self.best.tokens >= self.goal.useful_tokens or not self.goal.teaches(deeper))

    def _best_of(self, shapes: list[ModelConfig], best: Candidate | None = None) -> Candidate | None:
        """The best candidate of these shapes, or `best` where none is better."""
        for bound, shape in sorted(((self._bound(shape), shape) for shape in shapes), key=lambda pair: pair[0]):
            if best is not None and bound > best.loss:
                break
            for candidate in self.fitting(shape):
                is_better = best is None or (candidate.loss, candidate.simplicity) < (best.loss, best.simplicity)
                if is_better and self._has_enough(candidate):
                    best = candidate
        return best

    def smallest_within(self, nats: float) -> Candidate | None:
        """The smallest model whose loss is at most `nats` above the best one's, where that is a smaller one."""
        most = self.best.loss + nats
        for shape in sorted(self._shapes, key=law_parameters):
            if law_parameters(shape) >= law_parameters(self.best.step.config):
                return None
            if self._bound(shape) <= most:
                found = self._best_of([shape])
                if found is not None and found.loss <= most:
                    return found
        return None

    def largest_that_fits(self) -> Candidate | None:
        """The largest model that the card can train at all, whatever the budget makes of it."""
        shapes = sorted(
            (shape for shape in self._shapes if 56 <= shape.n_embd / shape.n_layer <= 96), key=law_parameters
        )
        low, high = 0, len(shapes)  # the first `low` fit, those from `high` on do not
        while low < high:
            middle = (low + high) // 2
            if self._fits_somehow(shapes[middle], self.goal.pinned.get("optimizer", OPTIMIZERS[0])):
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return None
        return min(self.fitting(shapes[low - 1]), key=lambda candidate: (candidate.loss, candidate.simplicity))

    def _fits_somehow(self, shape: ModelConfig, optimizer: Any) -> bool:
        """Whether the least that can be asked of this shape fits: one window, all activations computed again."""
        pinned = self.goal.pinned
        checkpointing, micro_batch = pinned.get("checkpointing", "all"), pinned.get("micro_batch", 1)
        return self._fits(self._step(shape, optimizer, checkpointing, micro_batch, accumulates=True))

    def fitting(self, shape: ModelConfig) -> Iterator[Candidate]:
        """Candidates of this shape that fit: for each optimizer and checkpointing the largest micro-batches that do."""
        pinned = self.goal.pinned
        for optimizer in [pinned["optimizer"]] if "optimizer" in pinned else OPTIMIZERS:
            if not self._fits_somehow(shape, optimizer):
                continue
            for checkpointing in [pinned["checkpointing"]] if "checkpointing" in pinned else CHECKPOINTING:
                step = self._step(shape, optimizer, checkpointing, 1)
                sizes = self._fitting_micro_batches(step)
                for micro_batch in self._worth_trying(sizes, shape, optimizer):
                    yield from self._with_batches(self._step(shape, optimizer, checkpointing, micro_batch))
                if sizes and sizes[-1] * shape.block_size >= 8 * BLOCK_SIZE:
                    break  # with so many tokens at once, computing activations twice gains nothing
            return  # the others learn less from a token, and are for where Muon does not fit

    def _worth_trying(self, sizes: list[int], shape: ModelConfig, optimizer: Any) -> list[int]:
        """Of the micro-batches that fit, the two largest; in a run so short that its batch is smaller, also the largest that
        is no larger than the batch, and on a CPU only that: small runs lack steps (docs/log.md, 2026-11-24)."""
        wanted = recommended_tokens_per_step(optimizer, self.goal.tokens_at(self._rate(shape)))
        in_batch = [size for size in sizes if size * shape.block_size * self.goal.machine.cards <= wanted]
        largest = [] if self.goal.machine.is_cpu else sizes[-2:]
        return list(dict.fromkeys([*(in_batch[-1:] or sizes[:1]), *largest]))

    def _fitting_micro_batches(self, step: StepShape) -> list[int]:
        """Those of the micro-batches to try that fit, smallest first; memory grows with them. `step` has one window."""
        if step not in self._sizes:
            pinned, block_size = self.goal.pinned.get("micro_batch"), step.config.block_size
            most = CPU_MICRO_BATCH_TOKENS if self.goal.machine.is_cpu else 2**18
            usual = [size for size in MICRO_BATCHES if size * block_size <= most or size == 1]
            self._sizes[step] = self._those_that_fit(step, [pinned] if pinned is not None else usual)
        return self._sizes[step]

    def _those_that_fit(self, step: StepShape, sizes: list[int]) -> list[int]:
        def fits(size: int) -> bool:
            return self._fits(self._step(step.config, step.optimizer, step.checkpointing, size, accumulates=True))

        if not fits(sizes[0]):
            return []
        return sizes[: bisect_left(sizes, True, lo=1, key=lambda size: not fits(size))]

    def _fits(self, step: StepShape) -> bool:
        return peak_on(step, self.goal.machine) <= self.goal.machine.budget_gib * GIB

    def _with_batches(self, step: StepShape) -> Iterator[Candidate]:
        """`step` with accumulations that come near the batch that its tokens want."""
        passes = self.goal.pinned.get("grad_accum")
        machine, cards = self.goal.machine, self.goal.machine.cards
        if passes is not None:
            yield self._candidate(replace(step, grad_accum=max(passes // cards, 1)))
            return
        rate = speed_on(replace(step, grad_accum=8), machine).mid
        wanted = recommended_tokens_per_step(step.optimizer, self.goal.tokens_at(rate))
        share = wanted / (step.micro_batch_tokens * cards)
        counts = {max(int(share), 1)} if machine.is_cpu else {max(int(share), 1), max(round(share), 1), int(share) + 1}
        for accumulation in sorted(counts):
            yield self._candidate(replace(step, grad_accum=accumulation))

    def _needs_memory(self, step: StepShape) -> UserError:
        machine, config = self.goal.machine, step.config
        needed = memory_on(step, machine).least / GIB
        return UserError(
            f"{machine.gpu.name} offers {machine.budget_gib:.1f} GiB to a run, and the smallest model tried ("
            f"{counted(config.n_layer, 'layer')} of {config.n_embd}, micro-batch {step.micro_batch}) needs {needed:.1f} GiB at "
            "least: plan for a card with more memory, or give a smaller model, micro_batch, block_size or vocabulary"
        )

    def _needs_budget(self, step: StepShape) -> UserError:
        goal, machine = self.goal, self.goal.machine
        if goal.tokens is not None:
            return UserError(
                f"a budget of {counted(goal.tokens, 'token')} is too small: one window has {step.config.block_size:,}; give "
                "more --tokens, or a smaller block_size"
            )
        hours = (
            start_seconds(machine)
            + step.tokens_per_step * machine.cards / (speed_on(step, machine).mid * TRAINING_SHARE)
        ) / 3600
        return UserError(
            f"a budget of {hours_text(goal.hours or 0)} is too short on {machine.gpu.name}: the first step is done after about "
            f"{hours_text(hours)}; give more --hours"
        )

    def _candidate(self, step: StepShape) -> Candidate:
        machine = self.goal.machine
        tokens = self.goal.tokens_at(speed_on(step, machine).mid)
        return Candidate(step, tokens, self._loss(step, tokens, step.tokens_per_step * machine.cards))

    def _loss(self, step: StepShape, tokens: float, tokens_per_step: float) -> float:
        unique = self.goal.facts.unique_tokens
        return expected_loss(
            step.config,
            step.optimizer,
            tokens=max(tokens, 1.0),
            tokens_per_step=tokens_per_step,
            unique_tokens=unique,
        ).mid

    def _bound(self, shape: ModelConfig) -> float:
        """A loss that no candidate of this shape goes below: the fastest step, the best batch, memory left out."""
        if shape not in self._bounds:
            optimizer = self.goal.pinned.get("optimizer", OPTIMIZERS[0])
            tokens = self.goal.tokens_at(self._rate(shape))
            self._bounds[shape] = float("inf")
            if self._are_enough(tokens, shape):
                wanted, unique = recommended_tokens_per_step(optimizer, tokens), self.goal.facts.unique_tokens
                self._bounds[shape] = expected_loss(
                    shape, optimizer, tokens=tokens, tokens_per_step=wanted, unique_tokens=unique
                ).mid
        return self._bounds[shape]

    def _rate(self, shape: ModelConfig) -> float:
        """Tokens per second of the fastest step of this shape, memory left out."""
        if shape not in self._rates:
            optimizer = self.goal.pinned.get("optimizer", OPTIMIZERS[0])
            step = replace(self._step(shape, optimizer, "off", max(2**18 // shape.block_size, 1)), grad_accum=4)
            self._rates[shape] = speed_on(step, self.goal.machine).mid
        return self._rates[shape]

    @cached_property
    def _shapes(self) -> list[ModelConfig]:
        """The shapes that every search begins with: of those that the text is enough for, or the smallest."""
        shapes = self._usual_shapes
        return [shape for shape in shapes if self.goal.teaches(shape)] or [min(shapes, key=law_parameters)]

    @property
    def _tries_small(self) -> bool:
        width, arch = WIDTHS[0], self.goal.pinned.get("arch", "nanochat")
        smallest = ModelConfig(DEPTHS[0], heads_of(width), width, BLOCK_SIZE, VOCABULARY_ROWS, arch)
        return self.goal.machine.is_cpu or not self.goal.teaches(smallest)

    @cached_property
    def _usual_shapes(self) -> list[ModelConfig]:
        pinned = self.goal.pinned
        depths = (pinned["n_layer"],) if "n_layer" in pinned else DEPTHS
        widths = (pinned["n_embd"],) if "n_embd" in pinned else self._whole_widths()
        free = "n_layer" not in pinned and len(widths) > 1
        least, most = WIDTH_OVER_DEPTH if free else (0, float("inf"))
        return [self._shape(depth, width) for depth in depths for width in widths if least <= width / depth <= most]

    def _whole_widths(self) -> tuple[int, ...]:
        """The usual widths that the pinned heads divide; without one, the width of heads of 64."""
        pinned = self.goal.pinned
        heads, shared = pinned.get("n_head"), pinned.get("n_kv_head", 1)
        usual = (*SMALL_WIDTHS, *WIDTHS) if self._tries_small else WIDTHS
        widths = [width for width in usual if _divides(heads, shared, width)]
        return tuple(widths) or (64 * (heads or shared),)

    def _neighbours(self, shape: ModelConfig) -> list[ModelConfig]:
        pinned = self.goal.pinned
        depths = [0] if "n_layer" in pinned else range(-3, 4)
        widths = [0] if "n_embd" in pinned else range(-256, 257, 64)
        least_width = (SMALL_WIDTHS if self._tries_small else WIDTHS)[0]
        found = [
            self._shape(shape.n_layer + deeper, shape.n_embd + wider)
            for deeper in depths
            for wider in widths
            if (deeper or wider)
            and shape.n_layer + deeper >= DEPTHS[0]
            and shape.n_embd + wider >= least_width
            and _divides(pinned.get("n_head"), pinned.get("n_kv_head", 1), shape.n_embd + wider)
            and (len(depths) == 1 or len(widths) == 1 or _is_usual(shape.n_layer + deeper, shape.n_embd + wider))
        ]
        return [neighbour for neighbour in found if self.goal.teaches(neighbour)]

    def _shape(self, depth: int, width: int) -> ModelConfig:
        pinned = self.goal.pinned
        vocabulary = vocabulary_of(pinned.get("tokenizer", "gpt2"), pinned.get("characters"))
        return ModelConfig(
            n_layer=depth,
            n_head=pinned.get("n_head") or heads_of(width),
            n_embd=width,
            block_size=self.goal.block_size,
            vocab_size=pinned.get("vocab_size") or vocabulary.padded_size,
            arch=pinned.get("arch", "nanochat"),
            n_kv_head=pinned.get("n_kv_head"),
            bias=pinned.get("bias", False),
            dropout=pinned.get("dropout", 0.0),
            unpadded_vocab_size=vocabulary.size,
        )

    def _step(
        self, shape: ModelConfig, optimizer: Any, checkpointing: Any, micro_batch: int, accumulates: bool = False
    ) -> StepShape:
        machine, pinned = self.goal.machine, self.goal.pinned
        tokens = micro_batch * shape.block_size
        hours, trained = self.goal.hours, self.goal.tokens
        execution = execution_on(
            machine.facts,
            pinned.get("precision", "auto"),
            pinned.get("compile", "auto"),
            training_seconds=3600 * hours if hours is not None else None,
            training_flops=trained * flops_per_token(shape) if trained is not None and machine.is_cpu else None,
        )
        return StepShape(
            config=shape,
            micro_batch=micro_batch,
            # Gradients accumulate, and the ids of a whole step lie on the card.
            grad_accum=max(-(-(2**20) // tokens), 2) if accumulates else 1,
            optimizer=optimizer,
            precision=execution.precision,
            compiles=execution.compiles,
            checkpointing=checkpointing,
            loss_chunk=min(pinned.get("loss_chunk") or loss_chunk_tokens(tokens, shape.vocab_size), tokens),
        )


def _divides(heads: int | None, kv_heads: int, width: int) -> bool:
    """Whether a model of this width can have these heads (None: those of `heads_of`), an even size each."""
    heads = heads or heads_of(width)
    return width % heads == 0 and (width // heads) % 2 == 0 and heads % kv_heads == 0


def _is_usual(depth: int, width: int) -> bool:
    least, most = WIDTH_OVER_DEPTH
    return least <= width / depth <= most


def heads_of(width: int) -> int:
    """Heads of 128, or of 64 where the width is below 512 or no multiple of that: what attention kernels are fast in. For other widths
    the heads that divide them with an even size, best a multiple of 8, nearest to 64."""
    if width % 64 == 0:
        return width // 128 if width % 128 == 0 and width >= 512 else width // 64
    dividing = [heads for heads in range(1, width + 1) if width % heads == 0 and (width // heads) % 2 == 0]
    return min(dividing, key=lambda heads: ((width // heads) % 8 != 0, abs(width / heads - 64)), default=1)
