"""The model: token ids in, logits or loss out.

`GPT` builds what `architecture.py` describes and checks that it did. Weights are float32; lower precision comes from
autocast around the forward pass.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanofit.architecture import ModelConfig, is_residual_projection, parameters
from nanofit.model.cache import KeyValueCache
from nanofit.model.layers import Block, LayerNorm
from nanofit.model.loss import cross_entropy


class GPT(nn.Module):
    """GPT-2: learned positions, pre-norm blocks, head tied to the token embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.final_norm = LayerNorm(config)
        self._check_described()

    def _check_described(self) -> None:
        built = {name: tuple(parameter.shape) for name, parameter in self.named_parameters()}
        described = {row.name: row.shape for row in parameters(self.config)}
        assert built == described, (
            f"model and architecture.py disagree on {set(built.items()) ^ set(described.items())}"
        )

    def initialize(self, generator: torch.Generator) -> None:
        """GPT-2's initialisation: normal 0.02, residual projections 0.02 / sqrt(2 n_layer), gains 1, biases 0.

        `generator` lives on the CPU, so that a seed gives the same weights on every device.
        """
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.dim() >= 2:
                    scale = (2 * self.config.n_layer) ** -0.5 if is_residual_projection(name) else 1.0
                    parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.02 * scale, generator=generator))
                else:
                    parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)

    def hidden(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Token ids [B, T] to the final hidden states [B, T, C]; with a cache, `tokens` follow those that it holds."""
        begin = cache.length if cache is not None else 0
        positions = torch.arange(begin, begin + tokens.shape[1], device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(positions)  # [B, T, C]
        if self.config.dropout:
            x = F.dropout(x, self.config.dropout, self.training)
        for index, block in enumerate(self.blocks):
            x = block(x, cache.layers[index] if cache is not None else None)
        return self.final_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, T, C] to logits [B, T, vocab_size], padding included."""
        return F.linear(hidden, self.token_embedding.weight)

    def forward(self, tokens: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """The loss in nats a token of `targets` [B, T] after `tokens` [B, T]; `reduction` none gives [B, T]."""
        return cross_entropy(self.logits(self.hidden(tokens)), targets, reduction)


def build_model(config: ModelConfig, device: torch.device, seed: int | None = None) -> GPT:
    """A model on `device`, initialised by `seed`; without one its weights are whatever memory holds, to be loaded over."""
    with torch.device("meta"):
        model = GPT(config)
    model.to_empty(device=device)
    if seed is not None:
        model.initialize(torch.Generator().manual_seed(seed))
    return model
