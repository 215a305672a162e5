"""Evaluates a run folder's newest checkpoint on its validation set."""

from dataclasses import dataclass
from pathlib import Path

from nanofit.common.errors import UserError
from nanofit.common.events import Activity, Note, Report
from nanofit.data.loading.stream import TokenStream
from nanofit.data.preparing.set_folder import set_in
from nanofit.data.preparing.source_facts import problem_of_set
from nanofit.evaluation.load_run import load_trained
from nanofit.evaluation.validation import Validation, evaluating, validate


@dataclass(frozen=True)
class Evaluation:
    """A run's validation, what it was measured on, and whether that is the community's set, so that it compares with published
    losses."""

    validation: Validation
    measured_on: str
    comparable: bool


def evaluate_run(path: Path, report: Report) -> Evaluation:
    """The validation loss of the run at `path`. Raises UserError where there is no run, checkpoint or data."""
    trained = load_trained(path, report)
    recipe = trained.recipe
    manifest = set_in(trained.data_folder)
    problem = problem_of_set(manifest, recipe.data.tokenizer, recipe.data.characters)
    if problem is not None:
        raise UserError(problem)
    if not (manifest.agrees_with(trained.data_digest) or manifest.redone):
        other = f"the shards in {manifest.folder} are not those that this run was trained on"
        report(Note(f"{other}: this is the loss on what lies there now", warning=True))

    def show(tokens: int, total: int) -> None:
        report(evaluating(tokens, total))

    validation = validate(
        lambda inputs, targets: trained.model(inputs, targets, "none"),
        TokenStream(manifest, "val"),
        trained.device,
        block_size=recipe.model.block_size,
        micro_batch=recipe.batch.micro_batch,
        most_tokens=manifest.made_of.get("evaluated_tokens"),
        between_batches=show,
    )
    report(Activity())
    return Evaluation(
        validation, manifest.made_of.get("validation", ""), bool(manifest.made_of.get("comparable", False))
    )
