"""`nanofit plan`."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nanofit.cli.overrides import overrides_of

if TYPE_CHECKING:
    from nanofit.config.recipe_files import LoadedRecipe
    from nanofit.planning.machine import Machine
    from nanofit.planning.plan import Plan


def plan(
    ctx: typer.Context,
    recipe: Path | None = typer.Argument(
        None,
        metavar="[RECIPE.toml|CONFIG.py]",
        help="A recipe, a nanoGPT config file or a preset of nanofit guide, taken as it stands; without one, the best is chosen.",
    ),
    gpu: str | None = typer.Option(
        None, "--gpu", metavar="NAME", help="The card, as in 'RTX 4090'; else this machine's."
    ),
    vram: str | None = typer.Option(
        None, "--vram", metavar="GIB", help="The memory of a card that nanofit gpus lacks."
    ),
    tflops: str | None = typer.Option(
        None, "--tflops", metavar="N", help="That card's dense 16-bit rate; without it a slow card's is assumed."
    ),
    bandwidth: str | None = typer.Option(
        None, "--bandwidth", metavar="GB/S", help="That card's memory bandwidth; without it a slow card's is assumed."
    ),
    gpus: str | None = typer.Option(None, "--gpus", metavar="N", help="Equal cards, data parallel."),
    trace: bool = typer.Option(False, "--trace", help="Check the memory by running the real step on fake tensors."),
    why: bool = typer.Option(False, "--why", help="Add all figures and the reasons, each with its source."),
    more: bool = typer.Option(False, "--more", help="Add the alternatives: more or fewer hours, other sizes."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document, always with everything."),
    save: Path | None = typer.Option(None, "--save", metavar="FILE", help="Write the recipe to FILE (.toml)."),
) -> None:
    """Name a card and hours, get the recipe that makes the most of them; or see what a recipe of your own really gives.

    --key=value and --key value set any recipe field, nanoGPT's names included: --hours 24, --tokens 2B, --arch gpt2. Without
    a file they are kept and the rest is chosen.

    Example: nanofit plan --gpu "RTX 4090" --hours 24 --save run.toml

    Example: nanofit plan config.py --gpu "RTX 4070 Ti"
    """
    from nanofit.common.durable import write_file
    from nanofit.common.errors import UserError
    from nanofit.config.capabilities import require_from_scratch
    from nanofit.config.recipe_files import load_recipe
    from nanofit.config.recipe_writing import save_recipe
    from nanofit.planning.machine import machine_of
    from nanofit.planning.promise import saved_plan_file

    if save is not None and save.suffix != ".toml":
        raise UserError(f"--save {save}: recipes are TOML files, so give a name that ends in .toml")
    overrides = overrides_of(ctx)
    loaded = None if recipe is None else load_recipe(recipe, overrides)
    cards = 1 if loaded is None else loaded.recipe.run.gpus
    machine = machine_of(gpu, vram, gpus, tflops=tflops, bandwidth=bandwidth, cards_of_recipe=cards)
    result = _plan(loaded, overrides, machine)
    require_from_scratch(result.recipe)
    written = None if save is None else f"{_SAVED[save_recipe(result.recipe, save, result.reasons)]} {save}"
    document = result.document()
    if save is not None:
        write_file(saved_plan_file(save), json.dumps(document, indent=1))
    if trace:
        document["traced_allocated_gib"] = _traced_gib(result)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        if written is not None:
            start = "" if result.blockers else f"; to start it: nanofit train {shlex.quote(str(save))}"
            typer.echo(f"{written}{start}", err=True)
        return
    from rich.console import Console

    from nanofit.cli.plan_screen import show_plan

    given = recipe if not overrides else None
    console = Console(highlight=False)
    show_plan(result, console=console, given=given, saved=save, written=written, why=why, more=more)
    if trace:
        typer.echo(f"traced: {document['traced_allocated_gib']:.3f} GiB of tensors at the peak of an eager step")


_SAVED = {"new": "wrote", "replaced": "replaced the plan in", "unchanged": "this plan is already in"}


def _plan(loaded: "LoadedRecipe | None", overrides: dict[str, Any], machine: "Machine | None") -> "Plan":
    from nanofit.config.recipe import field_of
    from nanofit.planning.machine import measured_cpu
    from nanofit.planning.plan import plan_recipe
    from nanofit.planning.predict import require_source

    if loaded is not None:
        if any(
            field_of(name) == "source" for name in overrides
        ):  # a source named in the file is audited even if it is missing
            require_source(loaded.recipe)
        machine = machine or measured_cpu()
        if machine is None:
            return plan_recipe(loaded.recipe, tuple(loaded.warnings))
        from nanofit.planning.audit import audit

        return audit(loaded.recipe, machine, tuple(loaded.warnings))
    return plan_of_options(overrides, machine)


def plan_of_options(overrides: dict[str, Any], machine: "Machine | None") -> "Plan":
    """The plan where no file is given; `nanofit train` without a file trains it."""
    from nanofit.config.recipe_files import options_alone
    from nanofit.planning.choose import plan_for_machine

    values, warnings = options_alone(overrides)
    return plan_for_machine(machine, values, tuple(warnings))


def _traced_gib(result: "Plan") -> float:
    import gc

    from nanofit.profiling.trace import trace_peak_gib

    gc.enable()  # `main` disabled it; here, cycles of objects hold tensors
    return trace_peak_gib(result.recipe, result.machine)
