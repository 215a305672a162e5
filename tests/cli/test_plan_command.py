"""`nanofit plan`: what it shows, what it prints as JSON, and what it saves."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nanofit_command import Nanofit

from nanofit.config.recipe_files import load_recipe

PREDICTED = {
    *("params_total", "params_non_embedding", "tokens", "tokens_per_step", "steps", "peak_memory_gib"),
    *("expected_allocated_gib", "memory_gib", "fits", "tokens_per_second", "mfu", "hours", "val_loss"),
    *("host_memory_gib", "disk_gib", "download_gib", "energy_kwh"),
}


def plan(nanofit: Nanofit, *arguments: str | Path) -> dict[str, Any]:
    """What `nanofit plan ARGUMENTS --json` prints."""
    ran = nanofit("plan", *arguments, "--json")
    assert ran.code == 0, ran.err
    assert ran.err.count("\n") == (1 if "--save" in arguments else 0)
    return json.loads(ran.out)


def test_the_json_has_exactly_the_contracts_fields(nanofit: Nanofit) -> None:
    document = plan(nanofit)
    assert set(document) - {"format_version"} == {
        "gpu",
        "recipe",
        "predicted",
        "alternatives",
        "warnings",
        "because",
        "blockers",
    }
    # Fields may be added; these are.
    assert set(document["predicted"]) == PREDICTED | {"flops", "unique_tokens", "epochs"}
    assert set(document["recipe"]) - {"tokens_per_step"} == {
        *("model", "data", "batch", "optimizer", "schedule", "budget", "run")
    }
    assert all(isinstance(line, str) for line in document["warnings"] + document["because"])


def test_the_guides_config_audited(nanofit: Nanofit, repository: Path) -> None:
    predicted = plan(nanofit, repository / "configs" / "guide_24gb.py")["predicted"]
    assert round(predicted["params_total"] / 1e6, 1) == 82.0
    assert round(predicted["tokens"] / 1e9, 1) == 26.2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--n_layer", "6", "--micro_batch", "5"),
        ("--n_layer=6", "--micro_batch=5"),
        ("--n-layer", "6", "--batch_size=5"),
        ("--batch_size", "5", "--n_layer=6"),
    ],
    ids=" ".join,
)
def test_fields_are_options_in_both_spellings_and_by_both_names(nanofit: Nanofit, arguments: tuple[str, ...]) -> None:
    recipe = plan(nanofit, *arguments)["recipe"]
    assert (recipe["model"]["n_layer"], recipe["batch"]["micro_batch"]) == (6, 5)


@pytest.mark.parametrize("position", range(3))
def test_options_may_stand_before_and_after_the_file(nanofit: Nanofit, repository: Path, position: int) -> None:
    arguments: list[str | Path] = ["--n_layer", "4"]
    arguments.insert(position if position != 1 else 2, repository / "configs" / "guide_24gb.py")
    assert plan(nanofit, *arguments)["recipe"]["model"]["n_layer"] == 4


def test_a_negative_value_is_a_value(nanofit: Nanofit) -> None:
    ran = nanofit("plan", "--seed", "-1")
    assert ran.code == 2
    assert "seed = -1" in ran.err


def test_a_budget_on_the_command_line_replaces_the_files_and_leaves_its_decay(
    nanofit: Nanofit, repository: Path
) -> None:
    document = plan(nanofit, repository / "configs" / "guide_24gb.py", "--max_iters", "20000")
    assert document["predicted"]["steps"] == 20_000
    assert document["recipe"]["schedule"]["decay_steps"] == 50_000
    assert any("the decay ends at step 50,000 and the run at 20,000" in line for line in document["warnings"])
    by_tokens = plan(nanofit, repository / "configs" / "guide_24gb.py", "--tokens", "1B")
    assert by_tokens["recipe"]["budget"] == {"tokens": 10**9, "steps": None, "hours": None}


def test_a_name_of_digits_is_a_name(nanofit: Nanofit) -> None:
    assert plan(nanofit, "--out", "2024")["recipe"]["run"]["out"] == "2024"


def test_warnings_of_a_nanogpt_file_and_of_options_are_shown(nanofit: Nanofit, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("import time\nwandb_run_name = str(time.time())\nmax_iters = 600000\n")
    warnings = plan(nanofit, "config.py", "--always_save_checkpoint=False")["warnings"]
    assert [line.split()[0] for line in warnings][:2] == ["wandb_run_name", "always_save_checkpoint"]
    assert any(
        line.startswith("always_save_checkpoint")
        for line in plan(nanofit, "--always_save_checkpoint=False")["warnings"]
    )


# Saving


@pytest.mark.parametrize(
    "arguments",
    [("config.py",), ("--n_layer=3", "--tokens=10M", "--dropout=0.1", "--out=there"), ("--hours", "0.5")],
    ids=" ".join,
)
def test_a_saved_plan_is_the_same_recipe(nanofit: Nanofit, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "config.py").write_text("n_layer = 2\nlearning_rate = 1e-3 / 3\nmax_iters = 50\nout_dir = 'a b'\n")
    before = plan(nanofit, *arguments, "--save", "new/run.toml")
    after = plan(nanofit, "new/run.toml")
    assert after["recipe"] == before["recipe"]
    assert after["predicted"] == before["predicted"]


def test_saving_says_what_it_wrote_and_the_next_command(nanofit: Nanofit, tmp_path: Path) -> None:
    first = nanofit("plan", "--gpu", "4090", "--hours", "2", "--save", "my run.toml", "--json")
    assert first.err == "wrote my run.toml; to start it: nanofit train 'my run.toml'\n"
    shown = nanofit("plan", "--gpu", "4090", "--hours", "2", "--save", "my run.toml").out
    assert shown.endswith("this plan is already in my run.toml\nto start it: nanofit train 'my run.toml'\n")


def test_a_saved_plan_that_nobody_edited_is_replaced(nanofit: Nanofit, tmp_path: Path) -> None:
    plan(nanofit, "--hours", "2", "--save", "run.toml")
    file = tmp_path / "run.toml"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))  # as git or an editor on Windows leaves it
    assert "replaced the plan in run.toml" in nanofit("plan", "--hours", "3", "--save", "run.toml").out
    assert load_recipe(file).recipe.budget.hours == 3


@pytest.mark.parametrize("change", ["comment", "value", "no seal", "foreign", "binary"])
def test_a_file_that_somebody_edited_is_never_replaced(nanofit: Nanofit, tmp_path: Path, change: str) -> None:
    plan(nanofit, "--hours", "2", "--save", "run.toml")
    file = tmp_path / "run.toml"
    text = file.read_text()
    edited = {
        "comment": text + "# mine\n",
        "value": text.replace("hours = 2.0", "hours = 4.0"),
        "no seal": text.split("\n", 1)[1],
        "foreign": "[budget]\nhours = 1\n",
        "binary": "\udcff",
    }[change]
    assert edited != text
    file.write_text(edited, errors="surrogateescape")
    ran = nanofit("plan", "--hours", "3", "--save", "run.toml")
    assert ran.code == 2
    assert "run.toml exists, and it was edited" in ran.err and "give --save another name" in ran.err
    assert file.read_text(errors="surrogateescape") == edited
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.plan.json", "run.toml"]


def test_a_link_stays_a_link(nanofit: Nanofit, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "run.toml").symlink_to("there/real.toml")
    plan(nanofit, "--hours", "2", "--save", "run.toml")
    assert (tmp_path / "run.toml").is_symlink()
    assert load_recipe(tmp_path / "there" / "real.toml").recipe.budget.hours == 2


def test_a_folder_is_no_place_for_a_plan(nanofit: Nanofit, tmp_path: Path) -> None:
    (tmp_path / "run.toml").mkdir()
    ran = nanofit("plan", "--hours", "2", "--save", "run.toml")
    assert ran.code == 2
    assert "run.toml is a folder" in ran.err


def test_a_plan_that_fails_saves_nothing(nanofit: Nanofit, tmp_path: Path) -> None:
    assert nanofit("plan", "--n_layer=0", "--save", "run.toml").code == 2
    assert not (tmp_path / "run.toml").exists()


# For people


def test_the_table_shows_what_was_counted_and_the_next_command(nanofit: Nanofit, repository: Path) -> None:
    ran = nanofit("plan", repository / "configs" / "guide_200m.py", "--save", "run.toml", "--why")
    assert ran.code == 0
    assert "12 layers x 12 heads x 768 wide" in ran.out
    assert "124M: 85M in the blocks, 39.4M in the embeddings (vocabulary 50,304)" in ran.out
    assert "60,000 steps of 32 x 16 windows = 524,288 tokens" in ran.out
    assert "on 31.5B tokens" in ran.out
    assert "warning: the decay ends at step 600,000" in ran.out
    assert "to start it" not in ran.out
    assert "it can't be trained yet: no source 'openwebtext': data/openwebtext/train.bin is not there" in " ".join(
        ran.out.split()
    )


def test_hours_leave_the_steps_to_the_training(nanofit: Nanofit) -> None:
    assert "as many steps as 30 minutes hold" in nanofit("plan", "--hours", "0.5").out


def test_names_with_brackets_are_shown_as_they_are(nanofit: Nanofit, tmp_path: Path) -> None:
    (tmp_path / "texts[").mkdir()
    (tmp_path / "texts[" / "red] [bold]").mkdir()
    (tmp_path / "texts[" / "red] [bold]" / "a.txt").write_text("text " * 1000)
    ran = nanofit("plan", "--source", "texts[/red] [bold]")
    assert ran.code == 0
    assert "texts[/red] [bold]" in ran.out


# A card and a budget


def test_a_card_and_hours_give_a_plan_with_everything_filled_in(nanofit: Nanofit) -> None:
    document = plan(nanofit, "--gpu", "RTX 4090", "--hours", "24")
    assert document["gpu"]["name"] == "RTX 4090"
    assert {"vram_gib", "usable_gib", "budget_gib"} <= set(document["gpu"])
    predicted = document["predicted"]
    assert None not in predicted.values()
    assert set(predicted["memory_gib"]) == {
        *("weights", "gradients", "optimizer", "activations", "loss", "workspace", "context", "margin")
    }
    assert sum(predicted["memory_gib"].values()) == pytest.approx(predicted["peak_memory_gib"])
    for name in ("tokens_per_second", "hours", "val_loss"):
        assert list(predicted[name]) == ["low", "mid", "high"]
    assert predicted["fits"]
    assert document["because"]
    for alternative in document["alternatives"]:
        assert set(alternative) == {"why", "recipe", "predicted"}


def test_planning_for_a_card_imports_no_torch() -> None:
    code = (
        "import sys; from nanofit.cli.app import _run; sys.argv = ['nanofit', 'plan', '--gpu', '4090', '--hours', '5', '--json'];"
        "assert _run() == 0; assert not {'torch', 'numpy', 'rich'} & set(sys.modules), 'slow to import'"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_a_saved_plan_is_audited_to_the_same_figures(nanofit: Nanofit, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    planned = plan(nanofit, "--gpu", "3060 12gb", "--hours", "5", "--save", file)
    assert plan(nanofit, file, "--gpu", "3060 12gb")["predicted"] == planned["predicted"]


def test_an_audit_shows_a_better_plan(nanofit: Nanofit, repository: Path) -> None:
    document = plan(nanofit, repository / "configs" / "guide_24gb.py", "--gpu", "4090")
    assert "better plan" in document["alternatives"][0]["why"]
    assert document["predicted"]["hours"]["mid"] > 10


def test_memory_alone_describes_a_card_and_several_cards_are_faster(nanofit: Nanofit) -> None:
    unlisted = plan(nanofit, "--vram", "11", "--hours", "5")
    assert "its rate and bandwidth are assumed to be those of RTX 3060 12GB" in " ".join(unlisted["warnings"])
    described = plan(nanofit, "--vram", "11", "--tflops", "80", "--bandwidth", "700 GB/s", "--hours", "5")
    assert "assumed" not in " ".join(described["warnings"])
    assert described["predicted"]["tokens_per_second"]["mid"] > 1.5 * unlisted["predicted"]["tokens_per_second"]["mid"]
    one, two = (plan(nanofit, "--gpu", "4090", "--gpus", str(cards), "--hours", "5") for cards in (1, 2))
    assert two["predicted"]["val_loss"]["mid"] < one["predicted"]["val_loss"]["mid"]


def test_the_trace_agrees(nanofit: Nanofit) -> None:
    shape = ("--n_layer", "4", "--n_embd", "256", "--micro_batch", "2", "--grad_accum", "2", "--compile=false")
    document = plan(nanofit, "--gpu", "4090", "--hours", "5", *shape, "--trace")
    without_workspace = (
        document["predicted"]["expected_allocated_gib"] - document["predicted"]["memory_gib"]["workspace"]
    )
    assert document["traced_allocated_gib"] == pytest.approx(without_workspace, rel=0.005)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gpu", "RTX 4091", "--hours", "24"), "the nearest are RTX 4090"),
        (("--gpu", "A100", "--hours", "24"), "give one of A100"),
        (("--gpu", "4090", "--hours", "0"), "hours = 0"),
        (("--gpu", "4090", "--hours=-3"), "hours = -3"),
        (("--gpu", "4090", "--hours", "0.01"), "too short"),
        (("--vram", "1", "--hours", "24"), "needs 1."),
        (("--gpu", "4090", "--vram", "24"), "give one of them"),
        (("--gpu", "4090", "--hours", "2", "--tokens", "2B"), "one budget"),
        (("--gpus", "x"), "--gpus x"),
        (("--gpu", "4090", "--n_head", "7", "--n_embd", "768"), "not divisible"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_input_is_one_line(nanofit: Nanofit, arguments: tuple[str, ...], message: str) -> None:
    ran = nanofit("plan", *arguments)
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert ran.out == ""


def test_code_in_a_config_is_refused(nanofit: Nanofit, tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text("import os\nos.system('true')\n", encoding="utf-8")
    ran = nanofit("plan", file, "--gpu", "4090")
    assert ran.code == 2
    assert "is code, not a setting" in ran.err


def test_the_guide_is_shown_and_printed(nanofit: Nanofit) -> None:
    ran = nanofit("guide", "--json")
    assert ran.code == 0
    tiers = json.loads(ran.out)
    assert [tier["name"] for tier in tiers][2] == "guide-24gb"
    assert {"claimed", "true", "nanofit"} <= set(tiers[0])
    shown = nanofit("guide").out
    assert "~160-200M" in shown
    assert "82M" in shown


def test_a_plan_for_several_cards_is_saved_as_one_and_not_trained_on_one_card(nanofit: Nanofit, tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    ran = nanofit("plan", "--gpu", "2x4090", "--hours", "24", "--save", file)
    assert ran.code == 0
    assert "training on several cards is not there yet" in " ".join(ran.out.split())
    assert "to start it" not in ran.out
    recipe = load_recipe(file).recipe
    assert recipe.run.gpus == 2
    assert "gpus = 2 # planned for 2 x RTX 4090" in file.read_text()

    refused = nanofit("train", file, "--out", tmp_path / "run")
    assert refused.code == 2
    assert (
        "this recipe is for 2 cards" in refused.err
        and "--gpus 1" in refused.err
        and "about 1/2 of the tokens" in refused.err
    )
    assert not (tmp_path / "run").exists()
    one = load_recipe(file, {"gpus": 1}).recipe
    assert one.tokens_per_step == recipe.tokens_per_step


def test_the_cards_of_a_file_count_where_the_command_names_none(nanofit: Nanofit, tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[budget]\nsteps = 1000\n[batch]\ngrad_accum = 4\n[run]\ngpus = 2\n")
    documents = [
        plan(nanofit, file, "--gpu", name, *cards)
        for name, cards in (("4090", ()), ("4090", ("--gpus", "1")), ("4x4090", ()))
    ]
    assert [(document["gpu"]["cards"], document["recipe"]["run"]["gpus"]) for document in documents] == [
        (2, 2),
        (1, 1),
        (4, 4),
    ]
    assert [len(document["blockers"]) for document in documents] == [1, 0, 1]
    assert "takes about 2 times as long" in documents[0]["blockers"][0]
    assert plan(nanofit, file)["blockers"] == documents[0]["blockers"], "also where no card is named"
