"""The keys and values of the tokens so far, so that sampling runs the model on each token once."""

import torch
from torch import Tensor

from nanofit.config.architecture import ModelConfig


class LayerCache:
    """One block's keys and values: [B, K, block_size, D] each, of which `length` tokens are filled."""

    def __init__(self, shape: tuple[int, int, int, int], like: Tensor) -> None:
        self.keys, self.values = like.new_empty(shape), like.new_empty(shape)
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds [B, K, T, D] of each and returns all so far, [B, K, S, D]."""
        tokens = keys.shape[2]
        # The causal mask of SDPA starts at the first key, so only an empty cache takes several tokens at once.
        assert tokens == 1 or self.length == 0, "several tokens at once go into an empty cache only"
        end = self.length + tokens
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class KeyValueCache:
    """The caches of all blocks, for `batch` sequences of at most block_size tokens."""

    def __init__(self, config: ModelConfig, batch: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (batch, config.n_kv_heads, config.block_size, config.head_size)
        like = torch.empty(0, device=device, dtype=dtype)
        self.layers = [LayerCache(shape, like) for _ in range(config.n_layer)]

    @property
    def length(self) -> int:
        """Tokens held."""
        return self.layers[0].length

    def clear(self) -> None:
        for layer in self.layers:
            layer.length = 0
