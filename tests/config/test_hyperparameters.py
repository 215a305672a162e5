"""Settings that follow from the size of a run, at the runs that they were measured at."""

import pytest

from nanofit.config.hyperparameters import optimizer_defaults


def test_muon_at_the_reference_run_has_the_published_values() -> None:
    settings = optimizer_defaults("muon", tokens_per_step=2**19, steps=3250, n_embd=768)
    assert settings.learning_rate == pytest.approx(0.025)
    assert (settings.embedding_lr, settings.head_lr, settings.vector_lr) == pytest.approx((0.7, 0.004, 0.015))
    assert settings.momentum == pytest.approx(0.95)
    assert (settings.weight_decay, settings.beta1, settings.beta2, settings.grad_clip) == (0.05, 0.8, 0.95, 0.0)


@pytest.mark.parametrize(("steps", "rate", "head_lr"), [(185, 0.04, 0.02), (1000, 0.02, 0.008)])
def test_muon_at_small_runs_has_the_rates_that_were_measured_best(steps: int, rate: float, head_lr: float) -> None:
    settings = optimizer_defaults("muon", tokens_per_step=768, steps=steps, n_embd=128)
    assert settings.learning_rate == pytest.approx(rate, rel=0.1)
    assert settings.head_lr == pytest.approx(head_lr, rel=0.25)
    assert settings.embedding_lr == 0.2


def test_with_the_same_tokens_the_rate_goes_with_the_root_of_the_batch() -> None:
    small = optimizer_defaults("muon", tokens_per_step=2**16, steps=4000, n_embd=512)
    large = optimizer_defaults("muon", tokens_per_step=2**18, steps=1000, n_embd=512)
    assert large.learning_rate == pytest.approx(2 * small.learning_rate)


def test_a_run_of_unknown_length_is_taken_for_one_of_usual_length() -> None:
    unknown = optimizer_defaults("muon", tokens_per_step=2**16, steps=None, n_embd=512)
    assert unknown == optimizer_defaults("muon", tokens_per_step=2**16, steps=2000, n_embd=512)
