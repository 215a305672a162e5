"""The parts of a block: norm, causal self-attention, MLP. Shapes: B batch, T tokens, C n_embd, H heads, K key-value heads,
D head size, S tokens so far (T without a cache)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanofit.architecture import ModelConfig
from nanofit.model.cache import LayerCache

LAYER_NORM_EPSILON = 1e-5
"""GPT-2's."""


class LayerNorm(nn.Module):
    """LayerNorm whose bias is optional."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.n_embd))
        self.bias = nn.Parameter(torch.zeros(config.n_embd)) if config.bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, LAYER_NORM_EPSILON)


class Attention(nn.Module):
    """Causal self-attention by SDPA, which takes the flash kernel where the device has one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_head, self.n_kv_heads, self.head_size = config.n_head, config.n_kv_heads, config.head_size
        qkv_width = (config.n_head + 2 * config.n_kv_heads) * config.head_size
        self.qkv = nn.Linear(config.n_embd, qkv_width, bias=config.bias)
        self.projection = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = config.dropout

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        batch, tokens, width = x.shape
        heads = self.qkv(x).view(batch, tokens, -1, self.head_size)  # [B, T, H + 2K, D]
        # Split before transposing: the other way round costs 4% of a small step on a CPU (docs/log.md, 2026-11-24).
        parts = heads.split((self.n_head, self.n_kv_heads, self.n_kv_heads), dim=2)
        q, k, v = (part.transpose(1, 2) for part in parts)  # [B, H or K, T, D]
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


class Mlp(nn.Module):
    """Two projections with GELU between: the tanh form of OpenAI's code, or the exact one of nanoGPT."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.n_embd, config.mlp_width, bias=config.bias)
        self.down = nn.Linear(config.mlp_width, config.n_embd, bias=config.bias)
        self.gelu = "tanh" if config.gelu == "tanh" else "none"
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(F.gelu(self.up(x), approximate=self.gelu))
        return F.dropout(y, self.dropout, self.training) if self.dropout else y


class Block(nn.Module):
    """Pre-norm residual block: attention, then MLP."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config)
        self.attention = Attention(config)
        self.mlp_norm = LayerNorm(config)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cache)
        return x + self.mlp(self.mlp_norm(x))
