"""Sampling: a prompt's ids in, new ids out one by one, with a cache of keys and values."""

from collections.abc import Iterator
from pathlib import Path

import torch

from nanofit.common.events import Report
from nanofit.data.tokenizing.tokenizers import stream_text, tokenizer_of
from nanofit.device.torch_device import DTYPES, Device
from nanofit.evaluation.load_run import load_trained
from nanofit.model import GPT, KeyValueCache


def generate(
    model: GPT,
    prompt: list[int],
    device: Device,
    *,
    vocabulary_size: int,
    tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int | None = None,
) -> Iterator[int]:
    """Yields `tokens` ids that follow `prompt` (at least one id). Temperature 0 takes the likeliest id every time.

    Ids from `vocabulary_size` on are padding and never chosen. When the context is full, the model goes on from its
    newer half: learned positions end there.
    """
    generator = torch.Generator(device="cpu")
    if seed is not None:
        generator.manual_seed(seed)
    else:
        generator.seed()
    block_size = model.config.block_size
    cache = KeyValueCache(model.config, 1, device.torch_device, DTYPES[device.precision])
    context = prompt[-block_size:]
    fresh = context
    for _ in range(tokens):
        with torch.inference_mode(), device.autocast():
            inputs = torch.tensor([fresh], device=device.torch_device)
            logits = model.logits(model.hidden(inputs, cache)[:, -1])[0, :vocabulary_size]
        chosen = _choose(logits.float().cpu(), temperature, top_k, generator)
        yield chosen
        context = [*context[-block_size + 1 :], chosen]
        if cache.length < block_size:
            fresh = [chosen]
        else:
            cache.clear()
            fresh = context = context[-max(block_size // 2, 1) :]


def _choose(logits: torch.Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    if top_k is not None:
        threshold = logits.topk(min(top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < threshold, float("-inf"))
    probabilities = torch.softmax(logits / temperature, dim=-1)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def sample_run(
    path: Path,
    prompt: str,
    report: Report,
    *,
    tokens: int,
    temperature: float = 0.8,
    top_k: int | None = None,
    seed: int | None = None,
) -> Iterator[str]:
    """The text of `prompt` and its continuation by the run at `path`, as it comes. Raises UserError as load_trained does."""
    trained = load_trained(path, report)
    tokenizer = tokenizer_of(trained.recipe.data.tokenizer, trained.recipe.data.characters)
    ids = tokenizer.encode(prompt).tolist()
    yield prompt
    continuation = generate(
        trained.model,
        ids or [tokenizer.start],
        trained.device,
        vocabulary_size=tokenizer.vocabulary.size,
        tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
    )
    yield from stream_text(tokenizer, continuation)
