"""A plan as it is read in a terminal and in a pipe."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nanofit.cli.plan_screen import show_plan
from nanofit.config.recipe import build_recipe
from nanofit.config.recipe_files import load_recipe
from nanofit.config.recipe_writing import recipe_toml
from nanofit.hardware.gpu_names import find
from nanofit.hardware.unlisted_gpus import unlisted
from nanofit.planning.audit import audit
from nanofit.planning.calibration import CardCalibration, MeasuredCard, Measurement
from nanofit.planning.choose import plan_for
from nanofit.planning.machine import Machine
from nanofit.planning.plan import Plan, plan_recipe
from nanofit.planning.predict import step_on
from nanofit.planning.search import Goal


def shown(
    plan: Plan,
    width: int = 100,
    given: Path | None = None,
    saved: Path | None = None,
    *,
    why: bool = False,
    more: bool = False,
    **console: Any,
) -> str:
    """What is printed, without the blanks at the ends of lines."""
    file = io.StringIO()
    show_plan(plan, console=Console(width=width, file=file, **console), given=given, saved=saved, why=why, more=more)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def unwrapped(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def chosen() -> Plan:
    return plan_for(Goal(Machine(find("RTX 4090")), 24.0, None))


def audited(repository: Path, machine: Machine, **values: Any) -> Plan:
    return audit(load_recipe(repository / "configs" / "guide_24gb.py", values).recipe, machine)


def test_the_choice_is_one_sentence(chosen: Plan) -> None:
    loss, model = chosen.predicted.val_loss, chosen.recipe.model
    assert loss is not None
    first = unwrapped(shown(chosen).split("\n\n")[0])
    assert first.startswith("RTX 4090, 24 hours: train a ")
    assert f"nanochat ({model.n_layer} x {model.n_embd})" in first
    assert f"expect a loss of {loss.mid:.2f} ({loss.low:.2f} to {loss.high:.2f}), " in first
    assert first.endswith("better than GPT-2 774M's 3.00.")


def test_the_answer_fits_a_terminal_of_80_x_24_with_its_prompt(chosen: Plan) -> None:
    lines = shown(chosen, width=80).splitlines()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    assert "--why adds all figures and the reasons; --more adds the alternatives" in lines


def test_the_answer_says_what_it_rests_on(chosen: Plan) -> None:
    text, predicted = shown(chosen), chosen.predicted
    assert "by the catalogue)" in text
    said = f"{predicted.peak_memory_gib:.1f} GiB, where a run can count on 23.0: guaranteed to fit (computed)"
    assert f"memory {said}" in text


def test_the_guarantee_says_where_this_card_was_measured(chosen: Plan) -> None:
    assert chosen.machine is not None and chosen.predicted.expected_allocated_gib is not None
    card, step = chosen.machine.gpu, step_on(chosen.recipe, chosen.machine)
    memory_bytes = round(1.01 * chosen.predicted.expected_allocated_gib * 2**30)
    probe = Measurement("probe", "2026-11-24", MeasuredCard.of(card), None, "2.13.0", step, 42_000.0, memory_bytes)
    measured = replace(chosen.machine, calibration=CardCalibration([probe], "2.13.0"))
    assert "guaranteed to fit (measured on this card)" in shown(plan_recipe(chosen.recipe, machine=measured))
    other = replace(chosen.machine, calibration=CardCalibration([probe], "2.12.0"))
    assert "guaranteed to fit (computed, checked on this card)" in shown(plan_recipe(chosen.recipe, machine=other))


def test_why_adds_every_reason_and_all_figures_with_their_bounds(chosen: Plan) -> None:
    answer, text, predicted = shown(chosen, width=116), shown(chosen, width=116, why=True), chosen.predicted
    for reason in chosen.because:
        assert unwrapped(reason) in unwrapped(text)
        assert unwrapped(reason) not in unwrapped(answer)
    for name in ("parameters", "rates", "tokens", "loss", "disk", "download", "host memory", "energy"):
        assert f"\n{name} " in text
    assert predicted.val_loss is not None
    assert f"{0.311 * predicted.val_loss.mid:.3f} (" in text
    assert f"{predicted.mfu:.0%} of the card's peak (MFU)" in text
    assert "at most, at the board's full 450 W" in text
    assert "--more adds the alternatives" in text and "--why" not in text


def test_more_adds_every_alternative(chosen: Plan) -> None:
    answer, text = shown(chosen, width=116), shown(chosen, width=116, more=True)
    for other in chosen.alternatives:
        model = f"{other.recipe.model.arch}, {other.recipe.model.n_layer} x {other.recipe.model.n_embd}"
        assert model in text and model not in answer
    assert "--more" not in text


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_line_is_wider_than_the_terminal(chosen: Plan, width: int) -> None:
    lines = shown(chosen, width, saved=Path("run.toml"), why=True, more=True).splitlines()
    assert max(map(len, lines)) <= width


def test_a_terminal_narrower_than_the_pictures_still_gets_them(chosen: Plan) -> None:
    assert shown(chosen, 40) == shown(chosen, 60)


def test_a_pipe_gets_no_escape_codes_and_letters_for_colours(chosen: Plan) -> None:
    piped = shown(chosen)
    assert "\x1b" not in piped
    assert "WWW" in piped and "W weights" in piped
    in_colour = shown(chosen, force_terminal=True, color_system="truecolor")
    assert "\x1b" in in_colour
    assert "WWW" not in in_colour
    assert "WWW" in shown(chosen, force_terminal=True, color_system="truecolor", no_color=True)


def test_an_encoding_without_line_drawing_gets_ascii(chosen: Plan) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    show_plan(chosen, console=Console(width=80, file=file), given=None, saved=None)
    file.flush()
    assert b"***" in raw.getvalue()


def test_memory_that_is_shared_with_the_system_is_not_guaranteed() -> None:
    text = shown(plan_for(Goal(Machine(find("DGX Spark")), 10.0, None)))
    assert ": fits what an idle system leaves (computed)" in text and "guaranteed to fit" not in text
    assert "/ system" in text
    mac = Machine(unlisted(64.0, tflops=16, bandwidth_gbs=410, name="Apple M4 Max"))
    assert "expected to fit, but not measured on Apple's GPUs" in shown(plan_for(Goal(mac, 10.0, None)))


# The next command


def test_a_saved_plan_is_started_from_its_file(chosen: Plan) -> None:
    assert shown(chosen, saved=Path("my runs/run.toml")).endswith("\nto start it: nanofit train 'my runs/run.toml'")


def test_a_plan_that_nobody_saved_is_saved_first(chosen: Plan) -> None:
    last = shown(chosen).splitlines()[-1]
    assert last == "to start it: add --save run.toml to this command, then nanofit train run.toml"


# An audit


def test_an_audit_names_the_file_its_faults_and_the_better_plan(repository: Path) -> None:
    plan, file = audited(repository, Machine(find("RTX 4060"))), Path("guide.py")
    text = unwrapped(shown(plan, given=file))
    assert "hours (" in text.split(":")[0]
    assert "guide.py, an 82M gpt2 (10 x 640) on 26.2B tokens" in text
    assert "It may not fit: it can take 12.5 GiB where a run can count on 7.1." in text
    assert "The better plan for the same hours: " in text
    for warning in plan.warnings:
        assert f"warning: {warning}" in text
    assert "12.5 GiB, where a run can count on 7.1: not guaranteed to fit (computed)" in text
    assert text.endswith("to start it: nanofit train guide.py")
    assert "12.5 > 7.1" in shown(plan, given=file, more=True)


def test_the_findings_of_an_audit_come_first_and_its_chart_with_the_reasons(repository: Path) -> None:
    plan, file = audited(repository, Machine(find("RTX 4060"))), Path("guide.py")
    text = shown(plan, given=file)
    assert text.index("warning:") < text.index("\nmodel ")
    assert "planned for so many hours" not in text
    assert "planned for so many hours" in shown(plan, given=file, why=True)


@pytest.mark.parametrize(
    ("machine", "options"),
    [
        (Machine(find("RTX 4060"), 2), '--gpu "RTX 4060" --gpus 2 --hours '),
        (Machine(find("A100 SXM 80GB")), "--hours "),
        (Machine(unlisted(11.0)), "--vram 11 --hours "),
        (Machine(find("RTX 4060"), free_gib=7.0), "nanofit plan --hours "),
        (Machine(unlisted(11.0, tflops=50, bandwidth_gbs=400)), "--vram 11 --tflops 50 --bandwidth 400 --hours "),
    ],
    ids=["cards", "name", "memory", "this machine's", "figures"],
)
def test_the_better_plan_has_its_command(repository: Path, machine: Machine, options: str) -> None:
    text = shown(audited(repository, machine), given=Path("guide.py"))
    (line,) = [line for line in text.splitlines() if line.startswith("to take the better plan: nanofit plan ")]
    assert options in line
    assert line.endswith(" --save better.toml")


def test_the_better_plans_command_keeps_what_it_kept(repository: Path) -> None:
    plan = audited(repository, Machine(find("RTX 4090")), source="openwebtext", block_size=512)
    said = shown(plan, given=Path("guide.py"))
    assert "--block_size 512 --save" in said
    assert "--source openwebtext" not in said, "it is not there, so the command would be refused"
    assert "it can't be trained yet: no source 'openwebtext'" in said
    assert "to start it" not in said


# What is not known is left out


def test_without_a_card_only_what_was_counted_is_shown() -> None:
    text = shown(plan_recipe(build_recipe({"steps": 1500, "tokenizer": "bytes"})))
    assert text.startswith("Train an 85.4M nanochat (12 x 768) on 18.4M tokens.\n")
    assert not any(word in text for word in ("tokens/s", "memory", "\nloss", "energy", "None"))


def test_hours_without_a_card_are_the_budget_alone() -> None:
    text = shown(plan_recipe(build_recipe({"hours": 0.5})))
    assert text.startswith("Train a 162M nanochat (12 x 768) for 30 minutes.\n")
    assert "as many steps as 30 minutes hold, of " in text
    assert "as 1 hour hold" in shown(plan_recipe(build_recipe({"hours": 1})))


def test_a_loss_that_is_not_predicted_has_no_chart() -> None:
    plan = plan_recipe(build_recipe({"steps": 1000, "source": "texts/"}), machine=Machine(find("RTX 4090")))
    text = shown(plan)
    assert "GPT-2" not in text
    assert "tokens/s" in text


def test_brackets_in_names_are_no_markup() -> None:
    plan = plan_recipe(build_recipe({"steps": 10, "source": "texts[/red] [bold]"}), ("a [red]warning[/red]",))
    text = shown(plan, given=Path("[b].toml"))
    assert "texts[/red] [bold]" in text
    assert "a [red]warning[/red]" in text
    assert "[b].toml" in text


# The saved recipe


def test_a_saved_recipe_explains_its_values_and_reads_back_equal(chosen: Plan, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(recipe_toml(chosen.recipe, chosen.reasons), encoding="utf-8")
    assert chosen.reasons
    for name, reason in chosen.reasons.items():
        assert f"{name} = " in file.read_text() and f"# {reason}\n" in file.read_text()
    assert load_recipe(file).recipe == chosen.recipe
