"""Sampling against the model run on the whole context."""

import torch

from nanofit.config.architecture import ModelConfig
from nanofit.config.recipe import RunSection
from nanofit.device.torch_device import choose_device
from nanofit.evaluation.generation import generate
from nanofit.model import GPT, build_model

CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=64)
CPU = choose_device(RunSection(device="cpu"))


def model() -> GPT:
    network = build_model(CONFIG, torch.device("cpu"), seed=5).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(8)  # far from uniform
    return network


def greedy_reference(network: GPT, prompt: list[int], tokens: int) -> list[int]:
    """The likeliest next id, each time from the whole context, which must not be full."""
    ids = list(prompt)
    for _ in range(tokens):
        with torch.no_grad():
            ids.append(int(network.logits(network.hidden(torch.tensor([ids])))[0, -1, :60].argmax()))
    return ids[len(prompt) :]


def test_greedy_sampling_with_the_cache_is_greedy_sampling_without() -> None:
    network = model()
    sampled = list(generate(network, [1, 2, 3], CPU, vocabulary_size=60, tokens=13, temperature=0))
    assert sampled == greedy_reference(network, [1, 2, 3], 13)


def test_past_the_context_it_goes_on_from_the_newer_half() -> None:
    network = model()
    prompt = [1, 2, 3]
    sampled = list(generate(network, prompt, CPU, vocabulary_size=60, tokens=20, temperature=0))
    # The cache holds all 16 tokens once 14 were chosen; the context then is its last 8.
    assert sampled[14:20] == greedy_reference(network, [*prompt, *sampled[:14]][-8:], 6)


def test_padding_is_never_chosen_and_a_seed_repeats() -> None:
    network = model()
    first, again, other = (
        list(generate(network, [0], CPU, vocabulary_size=5, tokens=60, temperature=5.0, seed=seed))
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert max(first) < 5


def test_top_k_of_one_is_greedy() -> None:
    network = model()
    greedy = list(generate(network, [9], CPU, vocabulary_size=60, tokens=8, temperature=0))
    assert list(generate(network, [9], CPU, vocabulary_size=60, tokens=8, temperature=3.0, top_k=1, seed=0)) == greedy


def test_a_prompt_longer_than_the_context_is_cut_to_its_end() -> None:
    network = model()
    prompt = list(range(40))
    sampled = list(generate(network, prompt, CPU, vocabulary_size=60, tokens=1, temperature=0))
    assert sampled == greedy_reference(network, prompt[-16:], 1)
