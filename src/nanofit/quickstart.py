"""From nothing to a trained GPT in minutes: plan, data, train, evaluate, sample, on whatever machine this is, offline."""

from dataclasses import dataclass
from pathlib import Path

from nanofit.api import train
from nanofit.common.events import Note, Report
from nanofit.common.units import counted
from nanofit.config.recipe import Recipe, RunSection
from nanofit.config.recipe_files import load_recipe
from nanofit.config.run_folder import RunFolder, read_metrics, summarize
from nanofit.config.stored_recipe import stored_recipe
from nanofit.data.loading.stream import TokenStream
from nanofit.data.shards.manifest import read_manifest
from nanofit.data.tokenizing.tokenizers import get_tokenizer
from nanofit.device.torch_device import choose_device
from nanofit.evaluation.baselines import Baselines, compute_baselines
from nanofit.evaluation.evaluate import evaluate_run
from nanofit.evaluation.generation import sample_run
from nanofit.evaluation.validation import Validation, bits_per_byte
from nanofit.planning.plan import Plan, plan_recipe
from nanofit.planning.starter import starter_recipe
from nanofit.reporting.curve import Curve, Level, as_png, loss_curve
from nanofit.training.run import Outcome

SECONDS = 150
"""How long training takes, preparation of the data included."""

_EVALUATIONS = {"eval_interval": 250, "eval_tokens": 16_384}
"""Enough points for a curve in a twentieth of the time; the figures at the end are for the whole split."""

PROMPT = "def read_"
SAMPLE_TOKENS = 300


@dataclass(frozen=True)
class QuickstartResult:
    """What there is to show: bits per byte of validation text before and after, plain models beside it, and more."""

    plan: Plan
    outcome: Outcome
    start_bits_per_byte: float
    validation: Validation
    baselines: Baselines
    curve: Curve
    picture: Path
    sample: str


def quickstart(out: Path, report: Report) -> QuickstartResult:
    """Runs everything in the run folder `out`. An unfinished quickstart there goes on; a finished one is moved aside."""
    run = RunFolder(out)
    recipe = _recipe(run, report)
    plan = plan_recipe(recipe)
    report(
        Note(
            f"training a GPT of {plan.predicted.params_total / 1e6:.1f}M parameters for about {SECONDS / 60:g} minutes"
        )
    )
    outcome = train(recipe, out, fresh=summarize(run).state == "finished", report=report)

    report(Note("evaluating on the whole validation split, and counting plain models to hold it against"))
    validation = evaluate_run(out, report).validation
    stored = load_recipe(run.recipe_file).recipe
    assert stored.data.folder is not None, "a run folder's recipe is written in full"
    manifest = read_manifest(Path(stored.data.folder))
    val_stream = TokenStream(manifest, "val")
    baselines = compute_baselines(TokenStream(manifest, "train"), val_stream, get_tokenizer(manifest.tokenizer))

    metrics = read_metrics(run.metrics_file)
    per_nat = bits_per_byte(1.0, val_stream)
    levels = (
        Level("byte unigram", baselines.unigram),
        Level("byte trigram", baselines.trigram),
        Level("zlib -9", baselines.zlib),
    )
    curve = loss_curve(metrics, per_nat, "bits per byte", levels)
    picture = run.path / "loss.png"
    as_png(
        curve,
        picture,
        f"nanofit quickstart: {plan.predicted.params_total / 1e6:.1f}M parameters, {counted(outcome.steps, 'step')}",
    )
    text = "".join(sample_run(out, PROMPT, report, tokens=SAMPLE_TOKENS, temperature=0.7, seed=1))
    return QuickstartResult(
        plan, outcome, metrics.losses("val_loss")[0][1] * per_nat, validation, baselines, curve, picture, text
    )


def _recipe(run: RunFolder, report: Report) -> Recipe:
    """The starter for this machine's device with a budget of minutes; an unfinished run keeps the recipe that it has."""
    if run.checkpoint_steps() and summarize(run).state != "finished":
        return stored_recipe(run, report)
    kind = choose_device(RunSection()).kind
    overrides = {"hours": SECONDS / 3600, "val_tokens": 400_000, **_EVALUATIONS}
    return starter_recipe(kind, overrides).recipe
