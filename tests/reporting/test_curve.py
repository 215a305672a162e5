"""The loss curve, as text and as a picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nanofit.config.run_folder import Metrics
from nanofit.reporting.curve import Curve, Level, as_png, as_text, loss_curve

METRICS = Metrics(
    {
        step: {"step": step, "train_loss": 4.0 - step / 100}
        | ({"val_loss": 4.1 - step / 100} if step % 50 == 0 else {})
        for step in range(0, 201, 10)
    }
)


def test_the_curve_is_in_the_unit_that_was_asked_for() -> None:
    curve = loss_curve(METRICS, scale=2.0, unit="bits per byte")
    assert curve.train[0] == (10, pytest.approx(7.7))
    assert [step for step, _ in curve.val] == [50, 100, 150, 200]
    assert [loss for _, loss in curve.val] == pytest.approx([7.2, 6.2, 5.2, 4.2])


def test_the_fall_of_the_first_steps_is_left_out_with_the_levels_above_the_rest() -> None:
    metrics = Metrics({step: {"step": step, "train_loss": 8.0 if step < 50 else 3.0} for step in range(1001)})
    curve = loss_curve(metrics, levels=(Level("unigram", 4.8), Level("zlib", 2.8)))
    assert curve.train[0][0] == 50
    assert {loss for _, loss in curve.train} == {3.0}
    assert [level.name for level in curve.levels] == ["zlib"]


def test_the_training_loss_is_smoothed_without_a_lag() -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 1001)
    line = 5 - np.arange(1001) / 500
    metrics = Metrics({step: {"train_loss": float(line[step] + noise[step])} for step in range(1001)})
    losses = dict(loss_curve(metrics).train)
    expected = np.convolve(line + noise, np.ones(101) / 101, "valid")
    assert [losses[step] for step in range(100, 951)] == pytest.approx(list(expected[50:]))
    assert losses[1000] == pytest.approx(np.mean((line + noise)[-51:]))


def test_steps_without_a_finite_loss_are_left_out() -> None:
    curve = loss_curve(Metrics({1: {"train_loss": float("nan")}, 2: {"train_loss": 1.5}, 3: {"val_loss": None}}))
    assert (curve.train, curve.val) == ([(2, 1.5)], [])


def test_as_text_it_keeps_to_its_width_and_names_what_it_shows() -> None:
    text = as_text(loss_curve(METRICS, levels=(Level("zlib -9", 2.2),)), width=70, height=12)
    assert all(len(line) <= 70 for line in text.splitlines())
    assert "\x1b" not in text
    assert all(word in text for word in ("train", "validation", "zlib -9", "nats per token", "step"))


def test_as_png_it_is_a_picture_with_both_curves(tmp_path: Path) -> None:
    file = tmp_path / "new" / "loss.png"
    as_png(loss_curve(METRICS), file, "a run")
    with Image.open(file) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**24) or []}
    assert (0x9D, 0xB8, 0xD2) in colours and (0x14, 0x50, 0x8C) in colours


def test_levels_that_are_close_share_a_label() -> None:
    train = [(step, 8.0 - step / 100) for step in range(0, 600, 10)]
    levels = (Level("zlib", 2.2), Level("trigram", 2.4), Level("unigram", 5.0))
    text = as_text(Curve(train, [], "nats per token", levels), width=78, height=16)
    assert "zlib, trigram" in text
    assert "unigram" in text
    assert max(map(len, text.splitlines())) <= 78
