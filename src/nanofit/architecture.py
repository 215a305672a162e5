"""The one table of every parameter of every architecture: name, shape and kind. No torch.

Parameter counts, memory formulas, optimizer groups, the check that the torch model is what was described, and the name
maps of other formats all derive from this table. A new architecture is new rows here and new settings of the one model.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

from nanofit.errors import UserError

Kind = Literal["embedding", "matrix", "head", "vector"]
"""embedding: a look-up table. matrix: a projection inside a block. head: an untied output projection. vector: gains, biases."""

Architecture = Literal["gpt2"]
ARCHITECTURES: tuple[str, ...] = get_args(Architecture)


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model: everything that decides its parameters and its forward pass."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    vocab_size: int
    arch: Architecture = "gpt2"
    n_kv_head: int | None = None
    gelu: Literal["tanh", "exact"] = "tanh"
    bias: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.n_embd % self.n_head:
            raise UserError(
                f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}: make n_embd a multiple of n_head"
            )
        if self.n_head % self.n_kv_heads:
            raise UserError(
                f"n_head {self.n_head} is not divisible by n_kv_head {self.n_kv_heads}: make n_head a multiple of n_kv_head"
            )

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head

    @property
    def n_kv_heads(self) -> int:
        """Heads of keys and values: n_head unless grouped-query attention shares them."""
        return self.n_kv_head or self.n_head

    @property
    def mlp_width(self) -> int:
        return 4 * self.n_embd


@dataclass(frozen=True)
class Parameter:
    """One row of the table. `layer` is the block's index, or None outside the blocks."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    layer: int | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)


def parameters(config: ModelConfig) -> tuple[Parameter, ...]:
    """Every parameter of `config`'s model, in the order of its forward pass."""
    width = config.n_embd
    rows = [
        Parameter("token_embedding.weight", (config.vocab_size, width), "embedding"),
        Parameter("position_embedding.weight", (config.block_size, width), "embedding"),
    ]
    for layer in range(config.n_layer):
        rows += _block(config, layer)
    return (*rows, *_norm(config, "final_norm"))


def _block(config: ModelConfig, layer: int) -> list[Parameter]:
    width = config.n_embd
    qkv_width = (config.n_head + 2 * config.n_kv_heads) * config.head_size
    prefix = f"blocks.{layer}"
    return [
        *_norm(config, f"{prefix}.attention_norm", layer),
        *_projection(config, f"{prefix}.attention.qkv", qkv_width, width, layer),
        *_projection(config, f"{prefix}.attention.projection", width, width, layer),
        *_norm(config, f"{prefix}.mlp_norm", layer),
        *_projection(config, f"{prefix}.mlp.up", config.mlp_width, width, layer),
        *_projection(config, f"{prefix}.mlp.down", width, config.mlp_width, layer),
    ]


def _norm(config: ModelConfig, name: str, layer: int | None = None) -> list[Parameter]:
    rows = [Parameter(f"{name}.weight", (config.n_embd,), "vector", layer)]
    if config.bias:
        rows.append(Parameter(f"{name}.bias", (config.n_embd,), "vector", layer))
    return rows


def _projection(config: ModelConfig, name: str, outputs: int, inputs: int, layer: int) -> list[Parameter]:
    rows = [Parameter(f"{name}.weight", (outputs, inputs), "matrix", layer)]
    if config.bias:
        rows.append(Parameter(f"{name}.bias", (outputs,), "vector", layer))
    return rows


def is_residual_projection(name: str) -> bool:
    """Whether this weight writes into the residual stream; GPT-2 initialises those at 0.02 / sqrt(2 n_layer)."""
    return name.endswith(("attention.projection.weight", "mlp.down.weight"))


@dataclass(frozen=True)
class ParameterCounts:
    """total: all parameters, a tied head once. non_embedding: those in the blocks. matmul: the N of FLOPs a token:
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
    """Training FLOPs a token, forward and backward: 6N + 6 n_layer n_embd T (llm.c's count, causal attention)."""
    return 6 * count_parameters(config).matmul + 6 * config.n_layer * config.n_embd * config.block_size
