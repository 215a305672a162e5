"""The parts of a block: norms, causal self-attention, MLP. Shapes: B batch, T tokens, C n_embd, H heads, K key-value heads,
D head size, S tokens so far (T without a cache)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanofit.config.architecture import ModelConfig
from nanofit.model.cache import LayerCache
from nanofit.model.functions import relu_squared, rms_norm
from nanofit.model.rotary import rotate


class Projection(nn.Module):
    """nn.Linear without an initialisation of its own, which `GPT.initialize` replaces anyway. Built on the meta device
    instead, torch's would import its compiler: a second and a half of every start."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Embedding(nn.Module):
    """nn.Embedding, likewise."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class LayerNorm(nn.Module):
    """LayerNorm whose bias is optional."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.n_embd))
        self.bias = nn.Parameter(torch.zeros(config.n_embd)) if config.bias else None
        self.epsilon = config.traits.norm_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class RmsNorm(nn.Module):
    """RMSNorm over the last dimension, `width` wide, whose gains are optional. Under autocast it gives autocast's dtype,
    in which the projection after it computes."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width)) if config.traits.norm_gains else None
        self.epsilon = config.traits.norm_epsilon

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        y = rms_norm(x, self.epsilon, dtype)
        return y if self.weight is None else y * self.weight.to(y.dtype)


def build_norm(config: ModelConfig) -> nn.Module:
    """The norm of the residual stream."""
    return LayerNorm(config) if config.traits.norm == "layer" else RmsNorm(config, config.n_embd)


class Attention(nn.Module):
    """Causal self-attention by SDPA, which takes the flash kernel where the device has one.

    With rotary positions queries and keys are normalised, then rotated. nanochat rotates first; without gains both are
    the same, since turning changes no norm.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_head, self.n_kv_heads, self.head_size = config.n_head, config.n_kv_heads, config.head_size
        qkv_width = (config.n_head + 2 * config.n_kv_heads) * config.head_size
        self.qkv = Projection(config.n_embd, qkv_width, config.bias)
        self.q_norm = RmsNorm(config, config.head_size) if config.traits.qk_norm else None
        self.k_norm = RmsNorm(config, config.head_size) if config.traits.qk_norm else None
        self.projection = Projection(config.n_embd, config.n_embd, config.bias)
        self.dropout = config.dropout

    def forward(self, x: Tensor, rotary: Tensor | None, cache: LayerCache | None = None) -> Tensor:
        batch, tokens, width = x.shape
        heads = self.qkv(x).view(batch, tokens, -1, self.head_size)  # [B, T, H + 2K, D]
        # Split before transposing: the other way round costs 4% of a small step on a CPU (docs/log.md, 2026-11-24).
        qk, v = heads.split((self.n_head + self.n_kv_heads, self.n_kv_heads), dim=2)
        if self.q_norm is not None and self.k_norm is not None:
            qk = self._normalised(qk, self.q_norm, self.k_norm)
        if rotary is not None:
            qk = rotate(qk, rotary)
        q, k = qk.split((self.n_head, self.n_kv_heads), dim=2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [B, H or K, T, D]
        if cache is not None:
            k, v = cache.append(k, v)  # [B, K, S, D]
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            dropout_p=self.dropout if self.training else 0.0,
            # A single new token sees all that came before it.
            is_causal=tokens > 1,
            enable_gqa=self.n_kv_heads != self.n_head,
        )
        y = self.projection(y.transpose(1, 2).reshape(batch, tokens, width))  # [B, T, C]
        return F.dropout(y, self.dropout, self.training) if self.dropout else y

    def _normalised(self, qk: Tensor, q_norm: RmsNorm, k_norm: RmsNorm) -> Tensor:
        """Queries and keys [B, T, H + K, D], normalised in one go, times their gains."""
        qk = rms_norm(qk, q_norm.epsilon)
        if q_norm.weight is None or k_norm.weight is None:
            return qk
        gains = torch.cat((q_norm.weight.expand(self.n_head, -1), k_norm.weight.expand(self.n_kv_heads, -1)))
        return qk * gains.to(qk.dtype)


class Mlp(nn.Module):
    """Two projections with a non-linearity between: GELU (the tanh form of OpenAI's code, or the exact one of nanoGPT),
    ReLU², or SwiGLU, whose gate and up projections lie in one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kind = config.traits.mlp
        width = config.mlp_width
        self.up = Projection(config.n_embd, 2 * width if self.kind == "swiglu" else width, config.bias)
        self.down = Projection(width, config.n_embd, config.bias)
        self.gelu = "tanh" if config.gelu == "tanh" else "none"
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(self._activate(self.up(x)))
        return F.dropout(y, self.dropout, self.training) if self.dropout else y

    def _activate(self, x: Tensor) -> Tensor:
        if self.kind == "relu2":
            return relu_squared(x)
        if self.kind == "swiglu":
            gate, up = x.chunk(2, dim=-1)
            return F.silu(gate) * up
        return F.gelu(x, approximate=self.gelu)


class Block(nn.Module):
    """Pre-norm residual block: attention, then MLP."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = build_norm(config)
        self.attention = Attention(config)
        self.mlp_norm = build_norm(config)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, rotary: Tensor | None, cache: LayerCache | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotary, cache)
        return x + self.mlp(self.mlp_norm(x))
