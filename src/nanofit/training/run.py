"""A run from its recipe to its end: data, model, the newest checkpoint, the loop. The same call again resumes."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nanofit.common.durable import write_file
from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.common.units import hours_text
from nanofit.config.recipe import Recipe
from nanofit.config.recipe_writing import recipe_toml
from nanofit.config.run_folder import Metrics, MetricsLog, RunFolder
from nanofit.data.loading.batches import AHEAD, StepBatches, check_ahead
from nanofit.data.loading.training_data import TrainingData
from nanofit.data.preparing.resolve import Request
from nanofit.data.shards.manifest import is_complete
from nanofit.device.torch_device import Device
from nanofit.model import build_model
from nanofit.optim import build_optimizer
from nanofit.planning.plan import Plan
from nanofit.planning.promise import append_plans, promise_of, read_plans
from nanofit.planning.without_gpu import cpu_note
from nanofit.training.checkpoint import load_newest_checkpoint
from nanofit.training.interrupts import StopRequest
from nanofit.training.loop import TrainingLoop
from nanofit.training.step import TrainStep
from nanofit.training.tracking import Tracking

USED_UP = 0.95
"""Share of its hours after which a run that lost all checkpoints is not started again: the rest makes no model."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `val_loss` in nats per token, `val_reduced` where that is of fewer tokens than the recipe says, to keep
    the hours; `seconds` over all its lives since the first that saved a step. This process trained from `first_step` on,
    `compiled` to the end or not."""

    run: RunFolder
    recipe: Recipe
    device: Device
    steps: int
    tokens: int
    val_loss: float | None
    seconds: float
    val_reduced: bool
    first_step: int
    compiled: bool


def train_run(
    plan: Plan,
    run: RunFolder,
    device: Device,
    past: Metrics,
    report: Report,
    stop: StopRequest,
    saved_plan: dict[str, Any] | None = None,
) -> Outcome:
    """Trains the recipe of `plan`, which was made for `device`, in a run folder that this process holds, from where it stands
    there; `past` is what its metrics say. Raises UserError for what the user can mend, and Stopped, with everything saved, when
    `stop` was requested."""
    with _feed(plan, run, report) as feed:
        stop.raise_if_requested()
        plan = replace(plan, recipe=_in_full(plan.recipe, run, feed, device))
        write_file(run.recipe_file, recipe_toml(plan.recipe))
        plans = [] if read_plans(run) or saved_plan is None else [saved_plan]
        if plans or promise_of(run) is None:
            plans.append(plan.document())
        append_plans(run, plans)
        return _train_on(feed, plan, run, device, past, report, stop)


def _train_on(
    feed: TrainingData, plan: Plan, run: RunFolder, device: Device, past: Metrics, report: Report, stop: StopRequest
) -> Outcome:
    recipe = plan.recipe
    config = recipe.model_config_of_run()
    stream = feed.train_stream()
    newest = max(run.checkpoint_steps(), default=0)
    check_ahead(stream, block_size=config.block_size, windows=recipe.windows_per_step, step=newest)
    torch.manual_seed(recipe.run.seed)
    model = build_model(config, device.torch_device, recipe.run.seed)
    optimizer = build_optimizer(model, recipe.optimizer_settings)
    train_step = TrainStep(model, optimizer, recipe, device, report)
    state = load_newest_checkpoint(run, model, optimizer, report)
    if state is not None:
        _require_same_data(feed, state.data_digest, report)
        if state.scaler:  # empty unless the checkpoint was made in float16
            train_step.scaler.load_state_dict(state.scaler)
        # A machine that loses its power may keep a checkpoint and lose the lines before it, which are not synced one by one.
        step, seconds = state.step, max(past.seconds, state.seconds)
    else:
        if past.seconds:
            _start_again_in_time(recipe, past.seconds, report)
        past, step, seconds = Metrics(), 0, past.seconds
    if device.kind == "cpu" and recipe.run.device == "auto" and step != recipe.steps:
        report(Note(cpu_note(plan, step)))
    report(Note(f"{device.name}; {'; '.join(device.reasons)}"))
    if step and step == recipe.steps:
        report(Note("this run is finished; a longer budget goes on from its end, --fresh starts over"))
    elif step:
        report(Note(f"going on from the checkpoint of step {step:,}"))
    log = MetricsLog(run.metrics_file)
    tracking = Tracking(recipe, run.path, report, step=step)
    loop = TrainingLoop(
        run,
        recipe,
        device,
        train_step,
        feed,
        log,
        past,
        tracking,
        report,
        stop,
        step=step,
        seconds=seconds,
    )
    try:
        with StepBatches(
            stream,
            block_size=config.block_size,
            seed=recipe.run.seed,
            micro_batch=recipe.batch.micro_batch,
            grad_accum=recipe.batch.grad_accum,
            first_step=step,
            stage=device.stage,
            late=loop.data_is_late,
        ) as batches:
            loop.run(batches)
    except BaseException as error:
        loop.note_end(error)
        raise
    finally:
        log.close()
        tracking.close()
    return Outcome(
        run,
        recipe,
        device,
        steps=loop.step,
        tokens=loop.step * recipe.tokens_per_step,
        val_loss=loop.val_loss,
        seconds=loop.seconds,
        val_reduced=loop.val_reduced,
        first_step=step,
        compiled=model.compiles,
    )


def _start_again_in_time(recipe: Recipe, seconds: float, report: Report) -> None:
    """Says that a run of which no checkpoint is intact starts again. Its hours go on to count from the `seconds` that it has
    used. Raises UserError where no time is left."""
    hours, text = recipe.budget.hours, "no checkpoint of this run is intact"
    if hours is None:
        report(Note(f"{text}: it starts again", warning=True))
        return
    used = f"it has used {hours_text(seconds / 3600)} of its {hours_text(hours)}"
    if seconds > USED_UP * 3600 * hours:
        raise UserError(f"{text}, and {used}: give more --hours, or start over with --fresh")
    report(Note(f"{text}: it starts again in the time that is left ({used})", warning=True))


def _feed(plan: Plan, run: RunFolder, report: Report) -> TrainingData:
    """The data of the run; one that goes on keeps its own shards, whatever became of the text."""
    recipe = plan.recipe
    folder = Path(recipe.data.folder) if recipe.data.folder else None
    source = recipe.data.source
    if run.exists and folder is not None and is_complete(folder):
        source = str(folder)
    request = Request(
        source,
        recipe.data.tokenizer,
        val_tokens=recipe.data.val_tokens,
        folder=folder,
        block_size=recipe.model.block_size,
        characters=recipe.data.characters,
    )
    return TrainingData(request, _expected_tokens(plan), report)


def _expected_tokens(plan: Plan) -> int:
    """What the run will train on by its budget: of hours, as much as the plan allows at most."""
    recipe, speed = plan.recipe, plan.predicted.tokens_per_second
    if recipe.steps is not None:
        return (recipe.steps + AHEAD) * recipe.tokens_per_step
    assert recipe.budget.hours is not None and speed is not None, "a plan to train is for a machine"
    return int(speed.high * 3600 * recipe.budget.hours) + AHEAD * recipe.tokens_per_step


def _require_same_data(feed: TrainingData, remembered: str, report: Report) -> None:
    """Raises UserError unless the shards are those that a checkpoint was trained on."""
    manifest = feed.manifest()
    if manifest.agrees_with(remembered):
        return
    if manifest.redone:
        report(
            Note(
                f"shards of {manifest.folder} were made again since, because {', '.join(manifest.redone)} had been damaged: "
                "this run goes on with the mended ones",
                warning=True,
            )
        )
        return
    if ":" not in remembered and not manifest.is_final:
        raise UserError(
            f"the set in {manifest.folder} was complete when this run was saved, and is not any more: nanofit data prepare, as it "
            "was given before, completes it; the same command then goes on"
        )
    raise UserError(
        f"the shards in {manifest.folder} are not those that this run began with: put them back, "
        "or start over with --fresh"
    )


def _in_full(recipe: Recipe, run: RunFolder, feed: TrainingData, device: Device) -> Recipe:
    """The recipe with every derived value and every choice made for this device written out: neither a new default nor
    another start changes what this run computes."""
    return recipe.with_values(
        **asdict(recipe.optimizer_settings),
        vocab_size=recipe.vocab_size,
        n_kv_head=recipe.model_config_of_run().n_kv_heads,
        folder=str(feed.folder.resolve()),
        precision=device.precision if recipe.run.precision == "auto" else recipe.run.precision,
        compile=device.compile,
        out=str(run.path),
    )
