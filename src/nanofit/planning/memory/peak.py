"""Peak memory of a training step in closed form: what is held at each moment that can be the highest, and the highest of them.

Every term names the tensors that it stands for; they sum over `architecture.py` and over the stages of `blocks.py`.
`profiling/trace.py` runs the real step on fake tensors and finds the same peak within 0.5% (tests). What a card takes beyond
tensors is in `card_memory.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import NamedTuple

from nanofit.config.architecture import ModelConfig, parameters
from nanofit.config.hyperparameters import STACKED_ENTRIES
from nanofit.planning.memory.activations import FLOAT32, block_stages, final_norm
from nanofit.planning.step import StepShape

SAMPLED = 2**16
"""Entries of a tensor, evenly spaced, that stand for all of them in a logged step's update ratio (`training/health.py`)."""


class Holding(NamedTuple):
    """Bytes of tensors that are alive at one moment, by what they are for. (A tuple, since the search makes many.)"""

    moment: str
    weights: int
    gradients: int
    optimizer: int
    activations: int = 0
    loss: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.loss


@lru_cache(maxsize=2**14)
def peak_holding(step: StepShape, iteration_width: int = 2) -> Holding:
    """The highest moment of `step`: forward, loss, backward, update, or an evaluation between two steps.

    `iteration_width` is bytes a value in Muon's iteration: 2 where the card has bfloat16, else 4.
    """
    return max(_moments(step, iteration_width), key=lambda holding: holding.total)


@dataclass(frozen=True)
class Sizes:
    """Entries of a model's parameters: all, in matrices, in one block (and in its matrices), in embeddings that are looked up, in
    the head's matrix, tied or not."""

    total: int
    matrices: int
    block: int
    block_matrices: int
    head: int
    samples: int
    adamw8bit_state: int


@cache
def sizes(config: ModelConfig) -> Sizes:
    """The sizes of `config`'s parameters, from the table. A block stands for all of them, which are alike."""
    block, rest = _sums_with_one_block(replace(config, n_layer=1))
    total, samples, state = (config.n_layer * each + once for each, once in zip(block[:3], rest[:3], strict=True))
    return Sizes(
        total=total,
        matrices=config.n_layer * block[3],
        block=block[0],
        block_matrices=block[3],
        head=config.vocab_size * config.n_embd,
        samples=samples,
        adamw8bit_state=state,
    )


@cache  # the search asks for many depths of few widths
def _sums_with_one_block(config: ModelConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sums over the parameters in the block of `config`, which has one, and over those outside of it: entries, samples, bytes of
    8-bit AdamW's state, entries in matrices."""
    table = parameters(config)
    block, rest = (
        [(row.size, row.kind == "matrix") for row in table if (row.layer is not None) == inside]
        for inside in (True, False)
    )
    return _sums(block), _sums(rest)


def _sums(rows: list[tuple[int, bool]]) -> tuple[int, ...]:
    return (
        sum(size for size, _ in rows),
        sum(_sampled(size) for size, _ in rows),
        sum(_state_8bit(size) for size, _ in rows),
        sum(size for size, is_matrix in rows if is_matrix),
    )


def _sampled(entries: int) -> int:
    return -(-entries // -(-entries // SAMPLED))


def _state_8bit(entries: int) -> int:
    """bitsandbytes keeps two bytes an entry and two float32 scales for every 256; small tensors stay in float32."""
    return 8 * entries if entries < 4096 else 2 * entries + 2 * FLOAT32 * -(-entries // 256)


def optimizer_state(step: StepShape) -> int:
    """Bytes that the optimizer keeps between steps."""
    size = sizes(step.config)
    if step.optimizer == "adamw8bit":
        return size.adamw8bit_state
    moments = 2 * FLOAT32 * size.total
    return moments - FLOAT32 * size.matrices if step.optimizer == "muon" else moments


def _moments(step: StepShape, iteration_width: int) -> Iterator[Holding]:
    config, size = step.config, sizes(step.config)
    tokens, width = step.micro_batch_tokens, 4 if step.precision == "float32" else 2
    casts = width if width < FLOAT32 else 0  # of a copy of a float32 value that a product takes
    weights, state = FLOAT32 * size.total + _rotary_tables(config), optimizer_state(step)
    ids = 8 * step.grad_accum * step.micro_batch * (config.block_size + 1)  # of the whole step, int64
    kept = FLOAT32 * size.total if step.grad_accum > 1 else 0  # gradients of earlier micro-batches
    head_gradient = FLOAT32 * size.head
    residual = FLOAT32 * config.n_embd * tokens

    final = final_norm(config, width)
    blocks = _Blocks(step, width, casts)
    saved = ids + _embedding_saves(config) * tokens + blocks.saved_up_to(config.n_layer) + final.saves * tokens

    casts_held = weights + casts * size.matrices
    yield Holding("last block, forward", casts_held, kept, state, saved - final.saves * tokens + blocks.last_forward())
    # The loss, in its last chunk. All narrow copies of weights are still in autocast's cache.
    hidden = _hidden(config, width) * tokens
    loss, joined = _loss(step, width, casts)
    for of_weight, chunk in joined:
        yield Holding(
            "loss",
            casts_held,
            kept + of_weight,
            state,
            saved + hidden,
            loss + chunk,
        )
    # The backward pass, from the end.
    # An untied head's gradient is added to earlier ones at once, a tied one's waits for that of the look-up.
    gradients = kept + (head_gradient if config.traits.tied_head or not kept else 0)
    casts_kept = casts * size.block_matrices * len(blocks.kept)
    yield Holding("final norm, backward", weights + casts_kept, gradients, state, saved + final.backward * tokens)
    for index in {0, 1, config.n_layer - 2, config.n_layer - 1} & set(range(config.n_layer)):
        later = FLOAT32 * size.block * (config.n_layer - 1 - index) if step.grad_accum == 1 else 0
        before = ids + _embedding_saves(config) * tokens + blocks.saved_up_to(index)
        held, cast_weights, of_block = blocks.backward(index)
        yield Holding(
            f"block {index}, backward", weights + cast_weights, gradients + later + of_block, state, before + held
        )
    everything = FLOAT32 * size.total
    if config.traits.embedding_norm:
        yield Holding("embedding norm, backward", weights, everything, state, ids + 3 * residual + 4 * tokens)
    looked_up = head_gradient if step.grad_accum > 1 or config.traits.tied_head else 0
    yield Holding("embedding, backward", weights, everything + looked_up, state, ids + residual)
    if config.traits.tied_head:  # its two gradients, and their sum
        once_more = head_gradient if step.grad_accum > 1 else 0
        yield Holding("sum of the tied gradients", weights, everything + 2 * head_gradient + once_more, state, ids)
    yield Holding("update", weights, everything, state + _update(step, iteration_width), ids)
    hidden = max(hidden, width * config.n_embd * tokens)
    yield Holding("evaluation", casts_held, 0, state, hidden, _evaluation(step, width, casts))


def _embedding_saves(config: ModelConfig) -> int:
    """Bytes a token: the normalised embedding and its inverse norm; without a norm nothing that a block does not keep."""
    return FLOAT32 * config.n_embd + FLOAT32 if config.traits.embedding_norm else 0


def _rotary_tables(config: ModelConfig) -> int:
    """Bytes of the cosines and sines of all positions, float32."""
    return 2 * FLOAT32 * config.block_size * config.head_size if config.traits.positions == "rotary" else 0


def _hidden(config: ModelConfig, width: int) -> int:
    """Bytes a token of what the head takes, where the final norm does not keep that itself."""
    if config.traits.norm == "layer":
        return FLOAT32 * config.n_embd
    return width * config.n_embd if config.traits.norm_gains else 0


class _Blocks:
    """The blocks of a step: what they keep for the backward pass, and what that holds. Bytes."""

    def __init__(self, step: StepShape, width: int, casts: int) -> None:
        config = step.config
        self._config = config
        self._tokens, self._casts = step.micro_batch_tokens, casts
        self._width, self._accumulates = width, step.grad_accum > 1
        every = {"off": 0, "half": 2, "all": 1}[step.checkpointing]
        self._recomputed = frozenset(range(0, config.n_layer, every)) if every else frozenset[int]()
        self.kept = frozenset(range(config.n_layer)) - self._recomputed
        self._input = FLOAT32 * config.n_embd * self._tokens
        stages = block_stages(config, width)
        self._whole = self._tokens * sum(stage.saves for stage in stages) + sum(stage.constant for stage in stages)
        self._norm_keeps_input = config.traits.norm == "layer"
        self._norm_of_embedding = config.traits.embedding_norm  # keeps the first block's input

    def saved_up_to(self, index: int) -> int:
        """Activations that blocks 0 to `index` - 1 keep: all of theirs, or their input where they are computed again."""
        recomputed = sum(1 for block in self._recomputed if block < index)
        inputs = recomputed - (1 if recomputed and self._norm_of_embedding else 0)
        return inputs * self._input + (index - recomputed) * self._whole

    def last_forward(self) -> int:
        """What the last block holds in its forward pass beyond what it keeps."""
        last = self._config.n_layer - 1
        has_input = self._norm_keeps_input or last in self._recomputed or (last == 0 and self._norm_of_embedding)
        middle = 0 if self._norm_keeps_input else self._input  # between attention and MLP
        added = self._width * self._config.n_embd * self._tokens + self._input
        return (0 if has_input else self._input) + middle + max(added, self._raw_activation())

    def _raw_activation(self) -> int:
        """What relu squares, which lives until it is squared; other non-linearities keep their input anyway."""
        return self._width * self._config.mlp_width * self._tokens if self._config.traits.mlp == "relu2" else 0

    def backward(self, index: int) -> tuple[int, int, int]:
        """The highest moment of the backward pass of block `index`: activations that it holds itself, narrow copies of
        weights, its own gradients so far."""
        earlier = sum(1 for block in self.kept if block < index)
        recomputes, tokens = index in self._recomputed, self._tokens
        besides = 0  # the block's input, where nothing else keeps it
        if recomputes and not (self._norm_keeps_input or (index == 0 and self._norm_of_embedding)):
            besides = self._input
        moments = [
            (per_token * tokens + constant, narrow, new + (0 if self._accumulates else done))
            for per_token, constant, narrow, new, done in backward_moments(self._config, self._width)
        ]
        narrow = moments[0][1]
        if recomputes:
            middle = 0 if self._norm_keeps_input else self._input
            gradient = self._input + (self._casts * self._config.n_embd * tokens)  # and the same made narrow
            moments.append((self._whole + gradient + middle + self._raw_activation(), narrow, 0))  # forward again
        held, casts, gradients = max(moments, key=sum)
        return held + besides, casts + earlier * narrow, gradients


@cache
def backward_moments(config: ModelConfig, width: int) -> tuple[tuple[int, int, int, int, int], ...]:
    """The moments of a block's backward pass, two a stage: bytes of activations a token and besides, of narrow copies of weights, of
    the gradient that is made, and of those that are done (they are added to an earlier micro-batch's where there is one)."""
    stages, moments = block_stages(config, width), []
    narrow = width if width < FLOAT32 else 0
    held, constant = sum(stage.saves for stage in stages), sum(stage.constant for stage in stages)
    casts, gradients = narrow * sum(stage.weight for stage in stages), 0
    for stage in reversed(stages):
        gradient = width * stage.weight  # as the product gives it
        moments.append((held + stage.backward, constant, casts, gradient, gradients))
        held, constant = held - stage.saves, constant - stage.constant
        if stage.weight:  # then in float32
            casts -= narrow * stage.weight
            new = FLOAT32 * stage.weight + (gradient if narrow else 0)
            moments.append((held + stage.gradient, constant, casts, new, gradients))
            gradients += FLOAT32 * stage.weight
    return tuple(moments)


def _loss(step: StepShape, width: int, casts: int) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Bytes of the loss (`model/loss.py`) that stay from chunk to chunk, and for each of its moments the head's gradient
    beside the rest of what it holds."""
    config = step.config
    tokens, chunk, vocab = step.micro_batch_tokens, step.loss_chunk, config.vocab_size
    head = vocab * config.n_embd
    stays = (
        casts * head + width * config.n_embd * tokens + 8 * tokens
    )  # the head made narrow, hidden's gradient, targets
    if config.traits.norm == "layer":
        stays += casts * config.n_embd * chunk
    logits = width * vocab * chunk  # as the product gives them
    share = FLOAT32 * vocab * chunk if config.traits.logit_softcap is not None else 0
    wide = FLOAT32 * vocab * chunk if casts else 0
    slope = casts * vocab * chunk
    if step.compiles:  # in one kernel from logits to slope; what a soft-cap needs is computed again
        wide = share = 0
    several = chunk < tokens
    of_weight = FLOAT32 * head
    product = width * head if several else (width + FLOAT32 if casts else FLOAT32) * head
    return stays, (
        (of_weight if several else 0, logits + share + wide + slope),
        (of_weight if several else 0, logits + share + slope + (product if casts or not several else 0)),
    )


def _update(step: StepShape, iteration_width: int) -> int:
    """What the optimizer's step holds beyond its state: copied samples, and Muon's stack of matrices at its largest."""
    size = sizes(step.config)
    samples = FLOAT32 * size.samples
    if step.optimizer != "muon":
        return samples
    return samples + max(
        _muon_stack(rows, columns, count * step.config.n_layer, iteration_width)
        for (rows, columns), count in _matrix_shapes(replace(step.config, n_layer=1))
    )


@cache
def _matrix_shapes(config: ModelConfig) -> tuple[tuple[tuple[int, int], int], ...]:
    """The shapes of the matrices of `config`, which has one block, and how many there are of each. The parts of a joined
    projection count apart."""
    counts: dict[tuple[int, int], int] = {}
    for row in parameters(config):
        for rows in row.parts:
            shape = (rows, row.shape[1])
            counts[shape] = counts.get(shape, 0) + 1
    return tuple(counts.items())


def _muon_stack(rows: int, columns: int, count: int, width: int) -> int:
    """Bytes that `optim/muon.py` holds for a stack: updates, one by one and joined; joined and narrow; in the iteration the
    updates, the same normalised, the last and the next result, and two Gram matrices (or five and fewer results, where
    it runs on those alone); or the result narrow and wide."""
    matrices = min(max(STACKED_ENTRIES // (rows * columns), 1), count)
    entries, short, long = matrices * rows * columns, min(rows, columns), max(rows, columns)
    gram = matrices * short**2
    if width == FLOAT32:
        iteration = max(2 * entries + 5 * gram, 3 * entries + 3 * gram) if long >= 2 * short else 4 * entries + 2 * gram
        return FLOAT32 * max(2 * entries, iteration)
    return max(
        2 * FLOAT32 * entries, (FLOAT32 + width) * entries, width * (4 * entries + 2 * gram), (2 * width + 4) * entries
    )


def _evaluation(step: StepShape, width: int, casts: int) -> int:
    """Bytes of the loss without gradients: the head made narrow, logits, their copy in float32, their log-softmax."""
    config, chunk = step.config, step.loss_chunk
    wide = 2 if casts else 1
    share = FLOAT32 if config.traits.logit_softcap is not None else 0
    return casts * config.vocab_size * config.n_embd + (width + wide * FLOAT32 + share) * config.vocab_size * chunk
