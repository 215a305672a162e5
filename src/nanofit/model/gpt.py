"""The model: token ids in, logits or loss out.

`GPT` builds what `architecture.py` describes and checks that it did; architectures are settings of it. Weights are
float32; lower precision comes from autocast around the forward pass.
"""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from nanofit.config.architecture import ModelConfig, is_residual_projection, parameters
from nanofit.model.cache import KeyValueCache
from nanofit.model.functions import rms_norm
from nanofit.model.layers import Block, Embedding, Projection, build_norm
from nanofit.model.loss import linear_cross_entropy, softcapped
from nanofit.model.rotary import rotary_tables


class GPT(nn.Module):
    """A GPT of any of our architectures.

    `recomputed` lists the blocks whose activations are dropped in the forward pass and computed again in the backward
    (activation checkpointing); `loss_chunk` is the number of tokens whose logits exist at once, None for all; `compiles`
    says whether blocks and loss go through torch.compile. One block is compiled for all, so that takes no longer for a
    deep model.
    """

    rotary: Tensor | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        traits = config.traits
        self.token_embedding = Embedding(config.vocab_size, config.n_embd)
        if traits.positions == "learned":
            self.position_embedding = Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.final_norm = build_norm(config)
        if not traits.tied_head:
            self.head = Projection(config.n_embd, config.vocab_size, bias=False)
        self.register_buffer("rotary", None, persistent=False)
        self.recomputed: frozenset[int] = frozenset()
        self.loss_chunk: int | None = None
        self.compiles = False
        self._check_described()

    def _check_described(self) -> None:
        built = {name: tuple(parameter.shape) for name, parameter in self.named_parameters()}
        described = {row.name: row.shape for row in parameters(self.config)}
        assert built == described, (
            f"model and architecture.py disagree on {set(built.items()) ^ set(described.items())}"
        )

    @property
    def head_weight(self) -> Tensor:
        """The output projection [vocab_size, C]: the token embedding where the head is tied to it."""
        return self.token_embedding.weight if self.config.traits.tied_head else self.head.weight

    def initialize(self, generator: torch.Generator) -> None:
        """Initial weights. gpt2: GPT-2's, normal 0.02, residual projections 0.02 / sqrt(2 n_layer). nanochat and qwen3:
        nanochat's, normal 1 for the embedding, 1 / sqrt(inputs) for projections, zero where a projection writes into
        the residual stream and in the head. Gains 1, biases 0.

        `generator` lives on the CPU, so that a seed gives the same weights on every device.
        """
        kinds = {row.name: row.kind for row in parameters(self.config)}
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if kinds[name] == "vector":
                    parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
                    continue
                deviation = self._initial_deviation(name, kinds[name])
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 1.0, generator=generator) * deviation)

    def _initial_deviation(self, name: str, kind: str) -> float:
        if self.config.traits.zero_projections:
            if kind == "embedding":
                return 1.0
            return 0.0 if kind == "head" or is_residual_projection(name) else self.config.n_embd**-0.5
        return 0.02 * ((2 * self.config.n_layer) ** -0.5 if is_residual_projection(name) else 1.0)

    def set_constants(self) -> None:
        """Fills what is neither a parameter nor saved: the tables of rotary positions."""
        if self.config.traits.positions == "rotary":
            self.rotary = rotary_tables(self.config, self.token_embedding.weight.device)

    def hidden(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Token ids [B, T] to the final hidden states [B, T, C]; with a cache, `tokens` follow those that it holds."""
        begin = cache.length if cache is not None else 0
        end = begin + tokens.shape[1]
        x = self.token_embedding(tokens)  # [B, T, C]
        if self.config.traits.positions == "learned":
            x = x + self.position_embedding.weight[begin:end]
        if self.config.traits.embedding_norm:
            x = rms_norm(x, self.config.traits.norm_epsilon)
        if self.config.dropout:
            x = F.dropout(x, self.config.dropout, self.training)
        rotary = self.rotary[:, begin:end] if self.rotary is not None else None  # [2, T, 1, D]
        for index, block in enumerate(self.blocks):
            if cache is not None:
                x = block(x, rotary, cache.layers[index])
                continue
            run: Callable[..., Tensor] = partial(compiled_block(), block) if self.compiles else block
            if index in self.recomputed and torch.is_grad_enabled():
                x = checkpoint(run, x, rotary, use_reentrant=False, preserve_rng_state=self.config.dropout > 0)
            else:
                x = run(x, rotary)
        return self.final_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, T, C] to logits [B, T, vocab_size], padding included."""
        return softcapped(F.linear(hidden, self.head_weight), self.config.traits.logit_softcap)

    def forward(self, tokens: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """The loss in nats a token of `targets` [B, T] after `tokens` [B, T]; `reduction` none gives [B, T]."""
        return linear_cross_entropy(
            self.hidden(tokens),
            self.head_weight,
            targets,
            softcap=self.config.traits.logit_softcap,
            vocabulary=self.config.unpadded_vocab_size,
            chunk=self.loss_chunk,
            compiles=self.compiles,
            reduction=reduction,
        )


@cache
def compiled_block() -> Callable[..., Tensor]:
    """Block, x and rotary tables to x. Not made on import: that takes a second, and most processes never compile."""
    return torch.compile(lambda block, x, rotary: block(x, rotary), dynamic=False)


def build_model(config: ModelConfig, device: torch.device, seed: int | None = None) -> GPT:
    """A model on `device`, initialised by `seed`; without one its weights are whatever memory holds, to be loaded over."""
    with device:  # nothing is initialised twice: our modules leave their weights empty
        model = GPT(config)
    model.set_constants()
    if seed is not None:
        model.initialize(torch.Generator().manual_seed(seed))
    return model
