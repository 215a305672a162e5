"""`nanofit train` from the outside: a budget by the clock."""

import json
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nanofit_command import Nanofit

import nanofit as package
from nanofit import api
from nanofit.cli.train import stopped_text
from nanofit.config.recipe import Recipe, RunSection, build_recipe
from nanofit.config.recipe_writing import recipe_toml
from nanofit.config.run_folder import RunFolder
from nanofit.device.torch_device import choose_device
from nanofit.planning.plan import recipe_document
from nanofit.training.run import Outcome


def ended(recipe: Recipe, out: Path) -> Outcome:
    """A run of one step that did nothing."""
    device = choose_device(RunSection(device="cpu"))
    return Outcome(
        RunFolder(out),
        recipe,
        device,
        steps=1,
        tokens=1,
        val_loss=None,
        seconds=0.0,
        val_reduced=False,
        first_step=0,
        compiled=False,
    )


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes that were to be trained, in a command that was started just now; nothing is."""
    recipes: list[Recipe] = []

    def train(recipe: Recipe, out: Path, **options: Any) -> Outcome:
        recipes.append(recipe)
        return ended(recipe, out)

    monkeypatch.setattr(api, "train", train)
    monkeypatch.setattr(package, "STARTED", time.monotonic())
    return recipes


def in_two_hours() -> str:
    return (datetime.now() + timedelta(hours=2)).strftime("%Y-%m-%d %H:%M")


def test_a_clock_time_is_a_budget_in_hours(nanofit: Nanofit, trained: list[Recipe]) -> None:
    ran = nanofit("train", "--until", in_two_hours())
    assert ran.code == 0, ran.err
    (recipe,) = trained
    assert recipe.budget.hours == pytest.approx(2, abs=1.1 / 60)
    assert recipe.steps is None
    assert "until " in ran.err
    assert "is 1.99 hours" in ran.err or "is 2 hours" in ran.err or "is 1.98 hours" in ran.err


def test_the_hours_that_a_run_has_used_already_come_on_top(
    nanofit: Nanofit, trained: list[Recipe], tmp_path: Path
) -> None:
    (tmp_path / "runs" / "starter" / "checkpoints" / "step-00000009").mkdir(parents=True)  # a step is saved
    (tmp_path / "runs" / "starter" / "recipe.toml").write_text(recipe_toml(build_recipe({"hours": 2})))
    (tmp_path / "runs" / "starter" / "metrics.jsonl").write_text('{"step": 9, "seconds": 5400}\n')
    assert nanofit("train", f"--until={in_two_hours()}").code == 0
    assert nanofit("train", f"--until={in_two_hours()}", "--fresh").code == 0
    assert [recipe.budget.hours for recipe in trained] == pytest.approx([3.5, 2], abs=1.1 / 60)


@pytest.mark.parametrize(
    "options", [("--hours", "24"), ("--n_layer=2", "--steps=7"), ("--source", "python", "--hours=0.1")]
)
def test_without_a_file_train_takes_the_plan(nanofit: Nanofit, trained: list[Recipe], options: tuple[str, ...]) -> None:
    planned = json.loads(nanofit("plan", *options, "--json").out)
    ran = nanofit("train", *options)
    assert ran.code == 0, ran.err
    (recipe,) = trained
    assert recipe_document(recipe) == planned["recipe"]
    assert "rain a" in ran.err, "what was planned is said"


def test_without_a_file_the_same_command_goes_on_with_the_run_that_it_began(
    nanofit: Nanofit, trained: list[Recipe], tmp_path: Path
) -> None:
    began = build_recipe({"n_layer": 3, "hours": 2})  # nothing that would be planned now
    for name in ("runs/starter", "runs/mine"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "recipe.toml").write_text(recipe_toml(began))
        (tmp_path / name / "plan.json").write_text("{}")
    assert nanofit("train", "--hours", "24").code == 0
    assert nanofit("train", "--hours", "24", "--out", "runs/mine").code == 0
    assert nanofit("train", "--hours", "24", "--fresh").code == 0
    assert nanofit("train", "--hours", "24", "--out", "runs/new").code == 0
    assert [recipe.model.n_layer == 3 for recipe in trained] == [True, True, False, False]
    assert {recipe.budget.hours for recipe in trained} == {24}


def test_no_probe_is_an_option(nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch) -> None:
    probes: list[bool] = []

    def train(recipe: Recipe, out: Path, **options: Any) -> Outcome:
        probes.append(options["probes"])
        return ended(recipe, out)

    monkeypatch.setattr(api, "train", train)
    assert nanofit("train").code == 0
    assert nanofit("train", "--no-probe", "--n_layer=2").code == 0
    assert probes == [True, False]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--source", "missing"), "no source 'missing'"),
        (("--source", "sjis.txt"), "sjis.txt (likely Shift-JIS)"),
        (("--source", "fineweb-2"), "no source 'fineweb-2'"),
        (("--source", "short.txt"), "the corpus is too short"),
    ],
)
@pytest.mark.parametrize("command", ["train", "probe"])
def test_a_wrong_source_is_the_only_line_and_needs_no_torch(
    tmp_path: Path, command: str, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "sjis.txt").write_bytes("これは日本語の文章です。\n".encode("cp932") * 99)
    (tmp_path / "short.txt").write_text("short")
    arguments = [command, *options, "--warmup_steps", "999", "--steps", "9"]
    code = (
        f"import sys; sys.argv = ['nanofit', *{arguments!r}]\n"
        "from nanofit.cli.app import _run\n"
        "code = _run(); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
    assert said in ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["short.txt", "sjis.txt"]


def test_a_run_goes_on_without_its_text(nanofit: Nanofit, run_folder: Path, folders: list[Path]) -> None:
    assert nanofit("train", "runs/mine", "--source", "gone").code == 0
    assert folders == [Path("runs/mine")]
    assert nanofit("train", "runs/mine", "--source", "gone", "--fresh").code == 2


# A run folder as the recipe


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run that was begun elsewhere: its recipe names another folder."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(recipe_toml(build_recipe({"n_layer": 3, "steps": 50, "out": "runs/before"})))
    (folder / "plan.json").write_text("{}")
    return folder


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The run folders that were to be trained in; nothing is."""
    found: list[Path] = []

    def train(recipe: Recipe, out: Path, **options: Any) -> Outcome:
        found.append(out)
        return ended(recipe, out)

    monkeypatch.setattr(api, "train", train)
    return found


@pytest.mark.parametrize("argument", ["runs/mine", "runs/mine/", "runs/mine/recipe.toml"])
def test_a_run_folder_is_resumed_where_it_lies(
    nanofit: Nanofit, run_folder: Path, folders: list[Path], argument: str
) -> None:
    ran = nanofit("train", argument)
    assert ran.code == 0, ran.err
    assert folders == [Path("runs/mine")]


def test_options_count_for_a_run_folder_as_for_a_recipe(
    nanofit: Nanofit, run_folder: Path, trained: list[Recipe]
) -> None:
    assert nanofit("train", "runs/mine", "--steps", "80").code == 0
    (recipe,) = trained
    assert (recipe.model.n_layer, recipe.steps) == (3, 80)


def test_another_out_is_another_run(nanofit: Nanofit, run_folder: Path, folders: list[Path]) -> None:
    assert nanofit("train", "runs/mine", "--out", "runs/other").code == 0
    assert folders == [Path("runs/other")]


def test_a_saved_recipe_toml_is_no_run(nanofit: Nanofit, tmp_path: Path, folders: list[Path]) -> None:
    (tmp_path / "recipe.toml").write_text("[budget]\nsteps = 5\n")
    assert nanofit("train", "recipe.toml").code == 0
    assert folders == [Path("runs/recipe")]
    ran = nanofit("train", ".")
    assert (ran.code, folders[1:]) == (2, [])
    assert ". is a folder without a run: give a run folder" in ran.err


@pytest.mark.parametrize("damage", ["", None, "[model\n", "format_version = 1\n[model]\nn_layer = 3\n"])
def test_a_lost_recipe_is_taken_from_the_newest_checkpoint(
    nanofit: Nanofit, run_folder: Path, trained: list[Recipe], damage: str | None
) -> None:
    for step, layers in ((10, 2), (20, 5)):
        copy = run_folder / "checkpoints" / f"step-{step:08d}" / "recipe.toml"
        copy.parent.mkdir(parents=True)
        copy.write_text(recipe_toml(build_recipe({"n_layer": layers, "steps": 50})))
    (run_folder / "recipe.toml").unlink()
    if damage is not None:
        (run_folder / "recipe.toml").write_text(damage)
    assert nanofit("train", run_folder).code == 0
    assert trained[0].model.n_layer == 5


def test_a_run_without_any_recipe_is_one_line(nanofit: Nanofit, run_folder: Path) -> None:
    (run_folder / "recipe.toml").unlink()
    ran = nanofit("train", run_folder)
    assert ran.code == 2
    assert ran.err.endswith("recipe.toml is missing, and no checkpoint has a copy: put it back\n")


def test_plan_takes_a_run_folder_too(nanofit: Nanofit, run_folder: Path) -> None:
    assert "3 layers" in nanofit("plan", "runs/mine").out


def test_what_is_said_of_a_stopped_run_is_what_is_saved(tmp_path: Path) -> None:
    """Ctrl-C before step 1 said "saved" when nothing was."""
    nothing = "stopped before a first step was saved; the same command again starts from the beginning"
    assert stopped_text(tmp_path / "runs" / "none", "the same command") == "stopped; nothing was started"
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "metrics.jsonl").touch()
    assert stopped_text(tmp_path / "begun", "the same command") == nothing
    run = RunFolder(tmp_path)
    run.checkpoint_folder(200).mkdir(parents=True)
    saved = f"stopped; step 200 is saved in {tmp_path}, and the same command again goes on from there"
    assert stopped_text(tmp_path, "the same command") == saved


@pytest.mark.parametrize(
    ("begun", "note"), [(False, "stopped; nothing was started"), (True, "stopped; step 7 is saved")]
)
@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_signal_while_torch_is_loaded_is_a_line(
    nanofit: Nanofit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    begun: bool,
    note: str,
    stop: BaseException,
    code: int,
) -> None:
    def stopped(*arguments: Any, **options: Any) -> None:
        raise stop

    monkeypatch.setattr(api, "train", stopped)
    if begun:
        (tmp_path / "runs" / "starter" / "checkpoints" / "step-00000007").mkdir(parents=True)
    if code == 143:
        with pytest.raises(SystemExit):
            nanofit("train")
    else:
        ran = nanofit("train")
        assert ran.code == code
        assert note in ran.err
