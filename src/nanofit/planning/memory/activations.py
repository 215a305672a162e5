"""What the backward pass of a block keeps and holds, stage by stage, in bytes per token.

A stage's name in the comments is its line in `model/layers.py`. C n_embd, F mlp_width; q, k and v are widths of all heads.
"""

from dataclasses import dataclass
from functools import cache

from nanofit.config.architecture import ModelConfig

FLOAT32 = 4


@dataclass(frozen=True)
class Stage:
    """A part of a block.

    saves: what it keeps for its backward pass. backward: what that pass holds at its highest moment besides all that is
    saved up to and with this stage, the gradient of the residual stream included. weight: entries of its matrix.
    constant: bytes that it keeps whatever the number of tokens.
    """

    saves: int
    backward: int
    weight: int = 0
    gradient: int = 0
    """Of its input, which remains when the gradient of its weight becomes float32."""
    constant: int = 0


@cache
def block_stages(config: ModelConfig, width: int) -> tuple[Stage, ...]:
    """The stages of a block in the order of its forward pass; `width` is bytes a value in products: 2 or 4."""
    residual = FLOAT32 * config.n_embd
    return (
        _norm(config, width, residual),
        *_attention(config, width, residual),
        _norm(config, width, residual),
        *_mlp(config, width, residual),
    )


def final_norm(config: ModelConfig, width: int) -> Stage:
    """The norm before the head, whose incoming gradient is that of the loss alone."""
    return _norm(config, width, 0)


def _norm(config: ModelConfig, width: int, residual: int) -> Stage:
    c = config.n_embd
    if config.traits.norm == "layer":
        # Its float32 input, mean and deviation; gradients of its result and of its input in float32.
        return Stage(saves=FLOAT32 * c + 8, backward=residual + 2 * FLOAT32 * c)
    # Its result and an inverse norm; gradient, result and their product in float32, the first two besides in `width`.
    backward = width * c + (3 if width < FLOAT32 else 1) * FLOAT32 * c
    return Stage(saves=width * c + FLOAT32, backward=residual + backward)


def _input_copy(config: ModelConfig, width: int) -> int:
    """What a projection keeps of a norm's result beyond what the norm keeps itself: float32 made narrower, or times gains."""
    return width * config.n_embd if config.traits.norm_gains else 0


def _attention(config: ModelConfig, width: int, residual: int) -> tuple[Stage, ...]:
    c, head = config.n_embd, config.head_size
    heads = config.n_head + config.n_kv_heads
    qk, v = heads * head, config.n_kv_heads * head
    qkv = Stage(
        saves=_input_copy(config, width),
        backward=residual + width * 2 * (qk + v),  # gradients of q, k and v, and the same joined
        weight=(qk + v) * c,
        gradient=residual + width * c,
    )
    normalised = Stage(
        saves=width * qk + FLOAT32 * heads,
        # Gradients of v and of the result; in float32 gradient, result and the new gradient; that in its own dtype.
        backward=residual + width * (v + qk) + (3 * FLOAT32 * qk + width * qk if width < FLOAT32 else FLOAT32 * qk),
    )
    turned = Stage(
        saves=0,
        backward=residual + width * (v + 3 * qk),
        constant=2 * config.block_size * head * width if width < FLOAT32 else 0,  # cosines and sines in `width`
    )
    turned_copy = width * qk if config.traits.positions == "rotary" else 0
    product = Stage(
        # q, k and v as they were projected (v is a part of that), q and k as they were turned, the result, a log-sum-exp.
        saves=width * (qk + v) + turned_copy + width * c + FLOAT32 * config.n_head,
        backward=residual + width * (c + qk + v),
    )
    projection = Stage(
        saves=c if config.dropout else 0,  # a mask of a byte
        backward=residual + (width * c if width < FLOAT32 else 0) + width * c,
        weight=c * c,
        gradient=residual + width * c,
    )
    return (
        qkv,
        *((normalised,) if config.traits.qk_norm else ()),
        *((turned,) if config.traits.positions == "rotary" else ()),
        product,
        projection,
    )


def _mlp(config: ModelConfig, width: int, residual: int) -> tuple[Stage, ...]:
    c, hidden = config.n_embd, width * config.mlp_width
    gated = config.traits.mlp == "swiglu"
    up = Stage(
        saves=_input_copy(config, width),
        # Gated: the gradients of both halves, and the same joined.
        backward=residual + (4 * hidden if gated else hidden + width * c),
        weight=(2 if gated else 1) * config.mlp_width * c,
        gradient=residual + width * c,
    )
    activation = Stage(
        saves=(3 if gated else 1) * hidden,  # gate, up and silu of the gate; or what the non-linearity works on
        backward=residual + (3 if gated else 2) * hidden,
    )
    down = Stage(
        saves=hidden + (c if config.dropout else 0),
        backward=residual + (width * c if width < FLOAT32 else 0) + hidden,
        weight=config.mlp_width * c,
        gradient=residual + hidden,
    )
    return up, activation, down
