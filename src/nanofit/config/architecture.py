"""The one table of every parameter of every architecture: name, shape and kind. No torch.

Parameter counts, memory formulas, optimizer groups, the check that the torch model is what was described, and the name
maps of other formats all derive from this table. A new architecture is new rows here and new settings of the one model.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

from nanofit.common.errors import UserError

Kind = Literal["embedding", "matrix", "head", "vector"]
"""embedding: a look-up table. matrix: a projection inside a block. head: an untied output projection. vector: gains, biases."""

Architecture = Literal["gpt2", "nanochat", "qwen3"]
ARCHITECTURES: tuple[str, ...] = get_args(Architecture)


@dataclass(frozen=True)
class Traits:
    """What an architecture's name stands for: the settings of the one model in which architectures differ."""

    positions: Literal["learned", "rotary"]
    norm: Literal["layer", "rms"]
    norm_gains: bool
    norm_epsilon: float
    embedding_norm: bool
    qk_norm: bool
    mlp: Literal["gelu", "relu2", "swiglu"]
    tied_head: bool
    biases_allowed: bool
    zero_projections: bool
    """Projections into the residual stream, and the head, begin at zero: every block begins as the identity."""
    logit_softcap: float | None = None
    rotation: Literal[1, -1] = 1
    """The sense in which rotary positions turn: nanochat's pairs turn the other way round."""


TRAITS: dict[str, Traits] = {
    "gpt2": Traits(
        positions="learned",
        norm="layer",
        norm_gains=True,
        norm_epsilon=1e-5,
        embedding_norm=False,
        qk_norm=False,
        mlp="gelu",
        tied_head=True,
        biases_allowed=True,
        zero_projections=False,
    ),
    "nanochat": Traits(
        positions="rotary",
        norm="rms",
        norm_gains=False,
        norm_epsilon=1e-6,
        embedding_norm=True,
        qk_norm=True,
        mlp="relu2",
        tied_head=False,
        biases_allowed=False,
        zero_projections=True,
        logit_softcap=15.0,
        rotation=-1,
    ),
    "qwen3": Traits(
        positions="rotary",
        norm="rms",
        norm_gains=True,
        norm_epsilon=1e-6,
        embedding_norm=False,
        qk_norm=True,
        mlp="swiglu",
        tied_head=False,
        biases_allowed=False,
        zero_projections=True,
    ),
}
"""Each is the architecture of a class of transformers: GPT2LMHeadModel, NanoChatForCausalLM, Qwen3ForCausalLM."""

ROTARY_BASE = 10_000.0


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model: everything that decides its parameters and its forward pass.

    vocab_size counts the rows of the embedding; `unpadded_vocab_size` of them are ids of the tokenizer, the rest is
    padding, which the loss leaves out (None: all of them are).
    """

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    vocab_size: int
    arch: Architecture = "gpt2"
    n_kv_head: int | None = None
    gelu: Literal["tanh", "exact"] = "tanh"
    bias: bool = False
    dropout: float = 0.0
    unpadded_vocab_size: int | None = None

    def __post_init__(self) -> None:
        if self.n_embd % self.n_head:
            raise UserError(
                f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}: make n_embd a multiple of n_head"
            )
        if self.n_head % self.n_kv_heads:
            raise UserError(
                f"n_head {self.n_head} is not divisible by n_kv_head {self.n_kv_heads}: make n_head a multiple of n_kv_head"
            )
        if self.bias and not self.traits.biases_allowed:
            raise UserError(f"{self.arch} has no biases: leave out bias, or use arch gpt2")
        if self.traits.positions == "rotary" and self.head_size % 2:
            raise UserError(
                f"rotary positions of {self.arch} turn pairs, and n_embd {self.n_embd} / n_head {self.n_head} is an odd "
                f"head size, {self.head_size}: change one of them"
            )

    @property
    def traits(self) -> Traits:
        return TRAITS[self.arch]

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head

    @property
    def n_kv_heads(self) -> int:
        """Heads of keys and values: n_head unless grouped-query attention shares them."""
        return self.n_kv_head or self.n_head

    @property
    def mlp_width(self) -> int:
        """4 n_embd; with a gate 8/3 n_embd rounded up to a multiple of 64, about as many parameters."""
        if self.traits.mlp == "swiglu":
            return -(-8 * self.n_embd // (3 * 64)) * 64
        return 4 * self.n_embd


@dataclass(frozen=True)
class Parameter:
    """One row of the table. `layer` is the block's index, or None outside the blocks. `parts` are the rows of each
    matrix, where several that read the same input lie in one tensor: queries, keys and values, or gate and up."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    layer: int | None = None
    parts: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        return prod(self.shape)


def parameters(config: ModelConfig) -> tuple[Parameter, ...]:
    """Every parameter of `config`'s model, in the order of its forward pass."""
    width, traits = config.n_embd, config.traits
    rows = [Parameter("token_embedding.weight", (config.vocab_size, width), "embedding")]
    if traits.positions == "learned":
        rows.append(Parameter("position_embedding.weight", (config.block_size, width), "embedding"))
    for layer in range(config.n_layer):
        rows += _block(config, layer)
    rows += _norm(config, "final_norm", width)
    if not traits.tied_head:
        rows.append(Parameter("head.weight", (config.vocab_size, width), "head"))
    return tuple(rows)


def _block(config: ModelConfig, layer: int) -> list[Parameter]:
    width, head = config.n_embd, config.head_size
    prefix = f"blocks.{layer}"
    query_rows, kv_rows = config.n_head * head, config.n_kv_heads * head
    hidden = config.mlp_width
    up = (hidden, hidden) if config.traits.mlp == "swiglu" else (hidden,)
    return [
        *_norm(config, f"{prefix}.attention_norm", width, layer),
        *_projection(config, f"{prefix}.attention.qkv", (query_rows, kv_rows, kv_rows), width, layer),
        *(_norm(config, f"{prefix}.attention.q_norm", head, layer) if config.traits.qk_norm else []),
        *(_norm(config, f"{prefix}.attention.k_norm", head, layer) if config.traits.qk_norm else []),
        *_projection(config, f"{prefix}.attention.projection", (width,), width, layer),
        *_norm(config, f"{prefix}.mlp_norm", width, layer),
        *_projection(config, f"{prefix}.mlp.up", up, width, layer),
        *_projection(config, f"{prefix}.mlp.down", (width,), hidden, layer),
    ]


def _norm(config: ModelConfig, name: str, width: int, layer: int | None = None) -> list[Parameter]:
    rows = [Parameter(f"{name}.weight", (width,), "vector", layer)] if config.traits.norm_gains else []
    if config.bias:
        rows.append(Parameter(f"{name}.bias", (width,), "vector", layer))
    return rows


def _projection(config: ModelConfig, name: str, outputs: tuple[int, ...], inputs: int, layer: int) -> list[Parameter]:
    """`outputs`: the rows of each matrix in the projection's weight."""
    rows = [Parameter(f"{name}.weight", (sum(outputs), inputs), "matrix", layer, outputs)]
    if config.bias:
        rows.append(Parameter(f"{name}.bias", (sum(outputs),), "vector", layer))
    return rows


def is_residual_projection(name: str) -> bool:
    """Whether this weight writes into the residual stream: GPT-2 begins those at 0.02 / sqrt(2 n_layer), others at zero."""
    return name.endswith(("attention.projection.weight", "mlp.down.weight"))


@dataclass(frozen=True)
class ParameterCounts:
    """total: all parameters, a tied head once. non_embedding: those in the blocks. matmul: the N of FLOPs per token:
    all matrices and the head, but not the embedding look-up."""

    total: int
    non_embedding: int
    matmul: int


def count_parameters(config: ModelConfig) -> ParameterCounts:
    """Counts for `config`, from the table alone."""
    table = parameters(config)
    matrices = sum(row.size for row in table if row.kind == "matrix")
    return ParameterCounts(
        total=sum(row.size for row in table),
        non_embedding=sum(row.size for row in table if row.layer is not None),
        matmul=matrices + config.vocab_size * config.n_embd,
    )


def flops_per_token(config: ModelConfig) -> int:
    """Training FLOPs per token, forward and backward: 6N + 6 n_layer n_embd T (llm.c's count, causal attention)."""
    return 6 * count_parameters(config).matmul + 6 * config.n_layer * config.n_embd * config.block_size
