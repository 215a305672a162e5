"""Repeated tokens and excess parameters, against the figures that the paper's authors publish with their constants."""

import math

import pytest

from nanofit.planning.loss.repetition import MAX_EPOCHS, effective_parameters, effective_tokens

# The authors' fit to C4, from the README of their repository (huggingface/datablations).
A, B, E, EXPONENT = math.exp(6.255414), math.exp(7.3049974), math.exp(0.6254804), 0.3526596
G = (A / B) ** (1 / (2 * EXPONENT))


@pytest.mark.parametrize(
    ("parameters", "tokens", "loss"), [(6.34e9, 242e9, 2.2256440889984477), (8.67e9, 178e9, 2.2269634075087867)]
)
def test_the_authors_law_over_effective_tokens_and_parameters_gives_the_losses_that_they_publish(
    parameters: float, tokens: float, loss: float
) -> None:
    unique = 25e9
    best = unique * G * G  # with equal exponents
    ours = E + A / effective_parameters(parameters, best) ** EXPONENT + B / effective_tokens(tokens, unique) ** EXPONENT
    assert ours == pytest.approx(loss, rel=1e-9)


def test_four_epochs_are_nearly_as_good_as_new_data_and_forty_are_not() -> None:
    """As the paper's abstract says."""
    assert effective_tokens(4e9, 1e9) == pytest.approx(4e9, rel=0.1)
    assert effective_tokens(40e9, 1e9) < 0.4 * 40e9
    assert effective_tokens(1e15, 1e9) == pytest.approx(16.4e9, rel=1e-3)
    assert effective_tokens(1e9, 1e9) == effective_tokens(1e9, None) == 1e9


def test_at_the_last_epoch_of_a_plan_another_is_worth_a_third_of_new_text() -> None:
    gain = effective_tokens((MAX_EPOCHS + 0.001) * 1e9, 1e9) - effective_tokens(MAX_EPOCHS * 1e9, 1e9)
    assert gain / 1e6 == pytest.approx(1 / math.e, rel=1e-3)


def test_parameters_count_in_full_up_to_the_best_number_and_less_beyond() -> None:
    assert effective_parameters(5e6, 1e7) == 5e6
    assert 1.8e7 < effective_parameters(2e7, 1e7) < 2e7
    assert effective_parameters(1e12, 1e7) == pytest.approx(6.31e7, rel=1e-3)
