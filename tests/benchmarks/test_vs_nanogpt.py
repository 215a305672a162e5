"""What the race makes of its runs: who was where when. The runs themselves need a checkout of nanoGPT, named by NANOGPT."""

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import vs_nanogpt
from benchmarks.race import Point, Run
from benchmarks.vs_nanogpt_report import draw, table

NANOGPT = os.environ.get("NANOGPT")


def run(*seconds: float) -> Run:
    return Run([Point(100 * number, at, Path("weights")) for number, at in enumerate(seconds, 1)], 2**20)


def result(our_losses: list[float]) -> dict[str, Any]:
    ours = [run(5.0, 10.0, 14.0), run(6.0, 11.0, 15.0), run(7.0, 12.0, 40.0)]
    theirs = {0.5: run(30, 60, 90), 1.0: run(30, 60, 92), 2.0: run(30, 60, 96)}
    their_losses = {0.5: [3.0, 2.2, 2.1], 1.0: [2.9, 2.1, 2.0], 2.0: [2.8, 2.0, 1.9]}
    longer = [run(6.0, 12.0, 18.0) for _ in range(3)]
    return vs_nanogpt._race_result(
        {300: ours, 400: longer}, {300: our_losses, 400: [2.5, 2.1, 1.95]}, theirs, their_losses
    )


def test_the_first_evaluation_at_or_below_nanogpts_final_loss_counts_at_its_median_time() -> None:
    found = result([2.4, 2.0, 1.9])
    assert found["against_its_own_rate"] == {
        "learning_rate": 1.0,
        "val_loss": 2.0,
        "nanogpt_seconds": 92,
        "nanofit_seconds": 11.0,
        "times_sooner": 92 / 11,
    }
    best = found["against_best_rate"]
    assert (best["learning_rate"], best["val_loss"], best["nanofit_seconds"]) == (2.0, 1.9, 15.0)
    assert best["times_sooner"] == pytest.approx(96 / 15)
    assert "8.36 times sooner" in table({"race": found})


def test_a_loss_that_was_not_reached_is_said_to_be_so(tmp_path: Path) -> None:
    found = result([2.4, 2.0, 1.95])
    assert found["against_best_rate"]["times_sooner"] is None
    assert "not reached" in table({"race": found})
    draw(found, tmp_path / "race.png")
    with Image.open(tmp_path / "race.png") as picture:
        assert picture.size == (1200, 675)


@pytest.mark.skipif(NANOGPT is None, reason="NANOGPT does not name a checkout of nanoGPT")
def test_both_train_and_are_measured_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert NANOGPT is not None
    text = tmp_path / "text.txt"
    text.write_text(
        "\n\n".join(f"Paragraph {n}: " + " ".join(f"word{n * i % 97}" for i in range(60)) for n in range(900))
    )
    short = vs_nanogpt.readme_settings(20) | {"eval_interval": 10, "n_layer": 1, "n_embd": 32, "eval_iters": 1}
    monkeypatch.setitem(vs_nanogpt.RACE["cpu"], "nanogpt", short)
    monkeypatch.setitem(vs_nanogpt.RACE["cpu"], "nanofit_steps", (8, 12))
    found = vs_nanogpt.race(Path(NANOGPT), str(text), "cpu", tmp_path)
    assert [point["step"] for point in found["nanofit"]["8"]] == [2, 4, 6, 8]
    assert [point["step"] for point in found["nanofit"]["12"]] == [3, 6, 9, 12]
    assert [point["step"] for point in found["nanogpt"]["0.001"]] == [0, 10, 20]
    assert found["nanofit"]["12"][-1]["val_loss"] < found["nanofit"]["12"][0]["val_loss"]
    assert found["block_parameters"]["nanofit"] <= found["block_parameters"]["nanogpt"]
