"""The screen of a plan: everything that it must say, in 80 columns and in 140, without colours too."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from nanofit.cli.plan_screen import PARTS, show_plan
from nanofit.gpus import find
from nanofit.planning.audit import audit
from nanofit.planning.choose import goal_of, plan_for
from nanofit.planning.machine import Machine
from nanofit.planning.plan import Plan, plan_recipe
from nanofit.recipe import build_recipe
from nanofit.recipe_files import load_recipe, recipe_toml


def shown(plan: Plan, width: int = 80, given: Path | None = None, saved: Path | None = None) -> str:
    stream = io.StringIO()
    show_plan(plan, console=Console(file=stream, width=width, highlight=False), given=given, saved=saved)
    return stream.getvalue()


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan_for(goal_of(Machine(find("RTX 4090")), {"hours": 24}))


@pytest.mark.parametrize("width", [60, 80, 140])
def test_it_fits_the_terminal_and_has_no_codes_where_there_are_no_colours(planned: Plan, width: int) -> None:
    lines = shown(planned, width).splitlines()
    assert max(map(len, lines)) <= width
    assert "\x1b" not in "".join(lines)


def test_the_choice_its_figures_and_the_way_on(planned: Plan) -> None:
    text = shown(planned)
    assert text.startswith("RTX 4090, 24 hours: a ")
    for word in (
        "expected loss",
        "better than GPT-2",
        "tokens/s (",
        "kWh",
        "of download",
        "GiB guaranteed, of",
        "because size:",
    ):
        assert word in " ".join(text.split()), word
    for name in ("GPT-2 124M 3.42", "GPT-2 350M 3.08", "GPT-2 774M 3.00"):
        assert name in text
    for alternative in planned.alternatives:
        assert alternative.why.split()[0] in text
    assert "--save run.toml" in text
    assert "nanofit train mine.toml" in shown(planned, saved=Path("mine.toml"))


def test_the_bar_of_memory_is_to_scale_and_marks_what_a_run_can_count_on(planned: Plan) -> None:
    (bar,) = (line[13:] for line in shown(planned).splitlines() if line.startswith("memory "))
    memory, predicted = planned.predicted.memory_gib, planned.predicted
    assert memory is not None and predicted.peak_memory_gib is not None and planned.machine is not None
    scale = bar.index("|") / planned.machine.budget_gib
    for name in ("weights", "activations", "margin"):
        assert bar.count(PARTS[name][0]) == pytest.approx(memory[name] * scale, abs=1.5)
    assert len(bar.replace("|", " ").rstrip()) <= bar.index("|")


def test_what_does_not_fit_is_said() -> None:
    recipe = build_recipe({"steps": 1000, "source": "fineweb", "micro_batch": 64, "n_layer": 24, "n_embd": 1536})
    text = " ".join(shown(audit(recipe, Machine(find("RTX 4060")))).split())
    assert "does NOT fit" in text
    assert "warning: micro-batch 64" in text
    assert "the better plan" in text


def test_without_a_card_there_is_no_memory_and_no_chart(repository: Path) -> None:
    text = shown(plan_recipe(load_recipe(repository / "configs" / "guide_24gb.py").recipe), given=Path("c.py"))
    assert text.startswith("A 82M gpt2")
    assert "memory" not in text
    assert "where a run" not in text
    assert "nanofit train c.py" in text


def test_a_saved_recipe_explains_its_values_and_reads_back_equal(planned: Plan, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(recipe_toml(planned.recipe, planned.reasons), encoding="utf-8")
    text = file.read_text(encoding="utf-8")
    assert "heads of 128, in which attention kernels are fast" in text
    assert "about 40 evaluations a run" in text
    assert load_recipe(file).recipe == planned.recipe
