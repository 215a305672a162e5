"""Evaluates a run folder's newest checkpoint on its whole validation split."""

from pathlib import Path

from nanofit.data.prepare import set_in
from nanofit.data.stream import TokenStream
from nanofit.evaluation.validation import Validation, validate
from nanofit.events import Report
from nanofit.training.trained import load_trained


def evaluate_run(path: Path, report: Report) -> Validation:
    """The validation loss of the run at `path`. Raises UserError where there is no run, checkpoint or data."""
    trained = load_trained(path, report)
    recipe = trained.recipe
    stream = TokenStream(set_in(trained.data_folder), "val")
    return validate(
        lambda inputs, targets: trained.model(inputs, targets, "none"),
        stream,
        trained.device,
        block_size=recipe.model.block_size,
        micro_batch=recipe.batch.micro_batch,
    )
