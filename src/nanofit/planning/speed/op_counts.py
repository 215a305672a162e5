"""What a training step does on a card: FLOPs, bytes moved and kernels launched, counted from the shapes alone.

The counts follow `model/`, `optim/` and torch.compile's fusions operation by operation. Nothing here depends on a card.
Everything is linear: so much a token, and so much a pass over the model, whatever the micro-batch.
"""

from dataclasses import dataclass
from functools import cache

from nanofit.config.architecture import ModelConfig
from nanofit.config.hyperparameters import NEWTON_SCHULZ_STEPS, OptimizerName

RESIDUAL = 4
"""Bytes an entry of the residual stream, which autocast leaves in float32."""

EAGER_TRAFFIC = {"layer": 1.5, "rms": 3.9}
"""Bytes that eager mode moves outside of products, for those of compiled code, by the kind of norm. Counted: a block with
LayerNorm reads and writes 154 n_embd bytes per token in eager mode and 104 compiled; one with RMSNorm, QK-norm and rotary
positions, whose functions are composed of many operations, 482 and 124."""

KERNELS = {True: (16, 26), False: (22, 40)}
"""Kernels of a block's forward and backward pass by whether it is compiled: products, attention, casts of weights and of
their gradients, and what is between. RMSNorm, QK-norm and rotary positions take twice as many in eager mode."""


@dataclass(frozen=True, slots=True)
class Work:
    """products and attention: FLOPs of matrix products and of attention. product_bytes: operands and results of both,
    which move while they compute. moved_bytes: what all else reads and writes. kernels: launched for it."""

    products: float = 0.0
    attention: float = 0.0
    product_bytes: float = 0.0
    moved_bytes: float = 0.0
    kernels: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.products + other.products,
            self.attention + other.attention,
            self.product_bytes + other.product_bytes,
            self.moved_bytes + other.moved_bytes,
            self.kernels + other.kernels,
        )

    def times(self, factor: float) -> "Work":
        return Work(
            self.products * factor,
            self.attention * factor,
            self.product_bytes * factor,
            self.moved_bytes * factor,
            self.kernels * factor,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """The work of a part of the step: `token` for each token of a micro-batch, `fixed` once a pass (a chunk, for the
    loss), whatever its size: reading and casting weights, forming their gradients, launching kernels."""

    token: Work
    fixed: Work


@dataclass(frozen=True)
class Widths:
    """Outputs of a block's projections [outputs, n_embd] (down: [n_embd, mlp]), and the matrices' entries per block."""

    kv: int
    up: int
    mlp: int
    matrices: int


@cache
def widths(config: ModelConfig) -> Widths:
    width, mlp = config.n_embd, config.mlp_width
    kv = config.n_kv_heads * config.head_size
    up = 2 * mlp if config.traits.mlp == "swiglu" else mlp
    return Widths(kv, up, mlp, width * (width + 2 * kv) + width * width + width * up + mlp * width)


def matrix_parameters(config: ModelConfig) -> int:
    """Entries of all matrices in the blocks: what Muon updates."""
    return config.n_layer * widths(config).matrices


def total_parameters(config: ModelConfig) -> int:
    """All parameters: the sum over `architecture.parameters`, in closed form because the search asks often."""
    width, traits, of = config.n_embd, config.traits, widths(config)
    norm = width * (traits.norm_gains + config.bias)
    vectors = 2 * norm + (2 * config.head_size if traits.qk_norm and traits.norm_gains else 0)
    if config.bias:
        vectors += 3 * width + 2 * of.kv + of.up
    tables = config.vocab_size * width * (1 if traits.tied_head else 2)
    if traits.positions == "learned":
        tables += config.block_size * width
    return tables + config.n_layer * (of.matrices + vectors) + norm


def block_forward(config: ModelConfig, compiles: bool, entry: int) -> Part:
    """All blocks' forward pass; `entry` bytes an activation in the precision of the products."""
    width, of = config.n_embd, widths(config)
    between = width * (5 * RESIDUAL + 4 * entry) + entry * (of.up + of.mlp)  # norms, residual sums, activation
    if config.traits.positions == "rotary":
        between += 2 * entry * (width + of.kv)
    attention_io = entry * 2 * (width + of.kv)
    token = Work(
        products=2 * of.matrices,
        attention=2 * width * config.block_size,  # scores and their product with values, half of each masked
        product_bytes=_product_entries(config, of) * entry + attention_io,
        moved_bytes=between * _eager_traffic(config, compiles),
    )
    # Autocast casts every weight in every pass.
    fixed = Work(
        product_bytes=of.matrices * entry,
        moved_bytes=of.matrices * _cast_bytes(entry),
        kernels=_kernels(config, compiles)[0],
    )
    return Part(token.times(config.n_layer), fixed.times(config.n_layer))


def block_backward(config: ModelConfig, compiles: bool, entry: int) -> Part:
    """All blocks' backward pass: each product twice, for its input's gradient and for its weight's."""
    width, of = config.n_embd, widths(config)
    between = width * (7 * RESIDUAL + 4 * entry) + entry * (2 * of.up + of.mlp)
    if config.traits.positions == "rotary":
        between += 3 * entry * (width + of.kv)
    attention_io = entry * 4 * (width + of.kv)
    token = Work(
        products=4 * of.matrices,
        attention=5 * width * config.block_size,  # five products to forward's two: scores are computed again
        product_bytes=2 * _product_entries(config, of) * entry + attention_io,
        moved_bytes=between * _eager_traffic(config, compiles),
    )
    fixed = Work(
        product_bytes=2 * of.matrices * entry,
        moved_bytes=of.matrices * _cast_bytes(entry),  # gradients to float32
        kernels=_kernels(config, compiles)[1],
    )
    return Part(token.times(config.n_layer), fixed.times(config.n_layer))


def ends_forward(config: ModelConfig) -> Part:
    """Embeddings and the final norm, always eager."""
    return Part(Work(moved_bytes=5 * RESIDUAL * config.n_embd), Work(kernels=8))


def ends_backward(config: ModelConfig) -> Part:
    """The same, backwards: a dense gradient of the embedding is zeroed in every pass, and added to a tied head's."""
    table = config.vocab_size * config.n_embd
    moved = 4 * table + (12 * table if config.traits.tied_head else 0)
    return Part(Work(moved_bytes=6 * RESIDUAL * config.n_embd), Work(moved_bytes=moved, kernels=10))


def loss(config: ModelConfig, compiles: bool, entry: int) -> Part:
    """The head and the loss, whose gradients are formed in the forward pass (model/loss.py): `fixed` is a chunk's."""
    width, vocabulary = config.n_embd, config.vocab_size
    passes = 8 * entry if compiles else 14 * entry  # over logits: largest, sum, slope, its scatter and cast
    kernels = 12 if compiles else 25
    if config.traits.logit_softcap is not None and not compiles:
        passes, kernels = passes + 24 * entry, kernels + 10
    token = Work(
        products=6 * vocabulary * width,
        product_bytes=3 * entry * (vocabulary + width),
        moved_bytes=passes * vocabulary + 10 * RESIDUAL * width,
    )
    table = vocabulary * width
    chunk = Work(product_bytes=3 * entry * table, moved_bytes=(entry + 8) * table, kernels=kernels)
    return Part(token, chunk)


def loss_pass(config: ModelConfig, entry: int) -> Work:
    """What the loss does once a micro-batch: casting the head and scaling its gradient."""
    return Work(moved_bytes=config.vocab_size * config.n_embd * (_cast_bytes(entry) + 8), kernels=8)


def accumulation(config: ModelConfig) -> Work:
    """Adding a further micro-batch's gradients to those of the ones before."""
    return Work(moved_bytes=12 * total_parameters(config), kernels=6 * config.n_layer)


def optimizer_work(config: ModelConfig, optimizer: OptimizerName, entry: int) -> Work:
    """An update. AdamW, fused: weight, gradient and two moments read, all but the gradient written, and the gradients
    read for their norm and scaled; in 8 bits two moments of a byte. Muon: below, AdamW for what is no matrix, no clipping.
    """
    total = total_parameters(config)
    if optimizer == "adamw":
        return Work(moved_bytes=(28 + 12) * total, kernels=40)
    if optimizer == "adamw8bit":
        return Work(moved_bytes=(16 + 12) * total, kernels=40 + 8 * config.n_layer)
    matrices = matrix_parameters(config)
    return Work(moved_bytes=28 * (total - matrices), kernels=40) + _muon(config, matrices, entry)


def _muon(config: ModelConfig, matrices: int, entry: int) -> Work:
    """Momentum, Newton-Schulz iteration on stacks of equal matrices, update. `entry` is 4 where the device has no
    bfloat16, and then wide matrices iterate on their small square alone (optim/muon.py)."""
    width, of = config.n_embd, widths(config)
    shapes = [(width, width)] * 2 + [(min(of.kv, width), width)] * 2 + [(width, of.mlp)] * (1 + of.up // of.mlp)
    flops = 0
    for small, large in shapes:
        small, large = min(small, large), max(small, large)
        if entry == 4 and large >= 2 * small:
            flops += 4 * small**2 * large + (8 * NEWTON_SCHULZ_STEPS - 6) * small**3
        else:
            flops += NEWTON_SCHULZ_STEPS * (4 * small**2 * large + 2 * small**3)
    around = 44 + 4 * entry  # two interpolations, decay, stacking, norm, update; casts to and from `entry`
    iteration = NEWTON_SCHULZ_STEPS * 9 * entry
    return Work(
        products=config.n_layer * flops,
        product_bytes=iteration * matrices,
        moved_bytes=around * matrices,
        kernels=4 * (3 * NEWTON_SCHULZ_STEPS + 12) + config.n_layer,
    )


def _product_entries(config: ModelConfig, of: Widths) -> int:
    """Inputs and outputs of a block's four products, entries per token."""
    width = config.n_embd
    return (width + width + 2 * of.kv) + 2 * width + (width + of.up) + (of.mlp + width)


def _cast_bytes(entry: int) -> int:
    return 4 + entry if entry != 4 else 0


def _eager_traffic(config: ModelConfig, compiles: bool) -> float:
    return 1.0 if compiles else EAGER_TRAFFIC[config.traits.norm]


def _kernels(config: ModelConfig, compiles: bool) -> tuple[int, int]:
    forward, backward = KERNELS[compiles]
    several = 2 if config.traits.norm == "rms" and not compiles else 1
    return forward * several, backward * several
