"""The documents that commands print with --json, as types: what docs/schemas/ is made of, and what tests hold commands to.

No command imports this. Where a document is a dataclass written out, that class is its type. To write the schemas again:

    python -m nanofit.cli.documents docs/schemas
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from nanofit.config.hyperparameters import OptimizerSettings
from nanofit.config.recipe import BatchSection, BudgetSection, DataSection, ModelSection, RunSection, ScheduleSection
from nanofit.config.run_folder import RunSummary
from nanofit.doctor import Check
from nanofit.hardware.gpus import Gpu
from nanofit.planning.interval import Interval
from nanofit.planning.predict import Predicted

Version = Annotated[
    Literal[1], Field(description="grows when a field changes its meaning or goes; not when one is added")
]


@dataclass(frozen=True, kw_only=True)
class Card(Gpu):
    """A card of the catalogue, with the memory that a run can count on."""

    budget_gib: float = 0.0  # pyright: ignore[reportIncompatibleVariableOverride, reportIncompatibleMethodOverride]


@dataclass(frozen=True, kw_only=True)
class PlannedCard(Card):
    """The card that a plan is for, and how many of it; `free_gib` is a reading of this machine."""

    free_gib: float | None
    cards: int
    rests_on: str


class RecipeDocument(BaseModel):
    """A recipe by its sections; [optimizer] in full."""

    model: ModelSection
    data: DataSection
    batch: BatchSection
    optimizer: OptimizerSettings
    schedule: ScheduleSection
    budget: BudgetSection
    run: RunSection
    tokens_per_step: int


class PlannedRecipe(BaseModel):
    """A recipe, and what it takes and gives."""

    recipe: RecipeDocument
    predicted: Predicted


class Alternative(PlannedRecipe):
    """Another recipe, and why somebody might want it."""

    why: str


class PlanDocument(PlannedRecipe):
    """`nanofit plan --json`."""

    format_version: Version
    gpu: PlannedCard | None
    alternatives: list[Alternative]
    warnings: list[str]
    because: list[str]
    blockers: list[str] = Field(description="what stops nanofit train from starting this recipe")
    traced_allocated_gib: float = Field(default=0.0, description="only with --trace")


class Claimed(BaseModel):
    """What the guide says of a tier."""

    params: str
    tokens: str | None
    vram: str | None
    note: str


class JudgedClaim(BaseModel):
    """What the guide says, what is true, and where that comes from."""

    says: str
    true: str
    source: str


class TrueTier(PlannedRecipe):
    """What the guide's settings really are."""

    nanogpt_eager_gib: float
    findings: list[str]


class Tier(BaseModel):
    """One of the guide's recommendations, in `nanofit guide --json`."""

    name: str
    cards: str
    gpu: str
    claimed: Claimed
    claims: list[JudgedClaim]
    true: TrueTier
    nanofit: PlannedRecipe


class ProbedDevice(BaseModel):
    """Where a probe measured."""

    name: str
    device: str
    driver: str | None
    torch: str


class Reading(BaseModel):
    """What was measured of one micro-batch."""

    micro_batch: int
    memory_gib: float
    allocated_gib: float | None
    process_gib: float
    free_gib: float
    tokens_per_second: float
    seconds_per_step: float
    start_seconds: float
    checkpoint_seconds: float | None
    mfu: float | None


class MemoryLine(BaseModel):
    """Memory over the tokens of a micro-batch."""

    fixed_gib: float
    bytes_per_token: float


class ExpectedOfProbe(BaseModel):
    """What formulas alone expected."""

    expected_allocated_gib: float
    peak_memory_gib: float
    tokens_per_second: Interval | None


class ProbeDocument(BaseModel):
    """`nanofit probe --json`."""

    format_version: Version
    gpu: ProbedDevice
    micro_batch: int
    grad_accum: int
    fits: bool
    too_large: list[int]
    largest_micro_batch: int | None
    precision: str
    compiled: bool
    readings: list[Reading]
    memory_line: MemoryLine | None
    tokens_per_second: float
    mfu: float | None
    predicted: ExpectedOfProbe
    notes: list[str]
    kept_in: str | None
    seconds: float


class ValidationSet(BaseModel):
    """What a loss is measured on; `comparable` with published losses."""

    text: str | None
    comparable: bool | None


class SplitFigures(BaseModel):
    """The finished shards of a split."""

    shards: int
    tokens: int
    documents: int
    text_bytes: int
    bytes_on_disk: int


class Unconfirmed(BaseModel):
    """Shards whose source files were not read to their end, so their sha256 is not checked yet."""

    shards: int
    tokens: int
    files: list[str]


class FilesOfText(BaseModel):
    """How many files of a folder on this machine were read as text, and how many were not, by their endings."""

    read: dict[str, int]
    skipped: dict[str, int]


class StatusDocument(BaseModel):
    """`nanofit data status --json` and `nanofit data prepare --json`."""

    format_version: Version
    folder: str
    complete: bool
    all_of_source: bool | None
    source: str | None
    spec: str | None
    revision: str | None
    files: FilesOfText | None
    tokenizer: str | None
    engines: list[str]
    validation: ValidationSet
    train: SplitFigures
    val: SplitFigures
    unconfirmed: Unconfirmed
    replaced_documents: int | None
    preparing_process: int | None


class BadFile(BaseModel):
    """A damaged file of a set of shards."""

    file: str
    problem: str
    mended: bool
    how: str | None


class VerifyDocument(BaseModel):
    """`nanofit data verify --json`."""

    format_version: Version
    folder: str
    good: bool
    shards: int
    tokens: int
    read_bytes: int
    sampled_documents: int
    bad: list[BadFile]
    next_step: str | None = Field(description="how a set that is not complete is completed; null for others")
    leftovers: list[str]


class PredictedLoss(BaseModel):
    """What the run's plan predicted, in nats per token."""

    val_loss: Interval | None


class PromisedFigures(BaseModel):
    """What the plan of a run says: nats per token, hours, tokens, tokens per second, GiB; null where it says nothing."""

    val_loss: Interval | None
    hours: Interval | None
    tokens: int | None
    tokens_per_second: Interval | None
    peak_memory_gib: float | None = Field(description="the most that it may take; on a CPU, that of tensors")


class ReachedFigures(BaseModel):
    """What a run came to, in the same units."""

    val_loss: float | None
    hours: float
    tokens: int
    tokens_per_second: float | None
    peak_memory_gib: float | None = Field(description="allocated tensors on CUDA, the resident set elsewhere")


@dataclass(frozen=True, kw_only=True)
class ListedRun(RunSummary):
    """A run of `nanofit runs --json`."""

    promised: PromisedFigures | None
    reached: ReachedFigures


class EvalDocument(BaseModel):
    """`nanofit eval --json`. Losses are in nats per token."""

    format_version: Version
    val_loss: float
    val_loss_stderr: float
    bits_per_byte: float
    tokens: int
    validation: ValidationSet
    tasks: dict[str, dict[str, float]]
    predicted: PredictedLoss
    promised: PromisedFigures | None
    reached: ReachedFigures


class Error(BaseModel):
    """What ended a command."""

    message: str = Field(description="one line: what is wrong and how to mend it")
    exit_code: int = Field(description="2: the user's mistake; 1: a failure of ours; 130 and 143: stopped by a signal")


class ErrorDocument(BaseModel):
    """What any command prints with --json in place of its document when it fails."""

    format_version: Version
    error: Error


DOCUMENTS: dict[str, TypeAdapter[Any]] = {
    "plan": TypeAdapter(PlanDocument),
    "guide": TypeAdapter(list[Tier]),
    "gpus": TypeAdapter(list[Card]),
    "probe": TypeAdapter(ProbeDocument),
    "data-status": TypeAdapter(StatusDocument),
    "data-verify": TypeAdapter(VerifyDocument),
    "eval": TypeAdapter(EvalDocument),
    "runs": TypeAdapter(list[ListedRun]),
    "doctor": TypeAdapter(list[Check]),
    "error": TypeAdapter(ErrorDocument),
}


class _Schema(GenerateJsonSchema):
    """Schemas of what is printed: every field of a dataclass is there, whether or not it has a default."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        return field["type"] == "dataclass-field" or super().field_is_required(field, total)


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON schema of each document, by its name. A document may have more fields: later versions add some."""
    return {
        name: {"$schema": GenerateJsonSchema.schema_dialect, "title": f"nanofit {name.replace('-', ' ')} --json"}
        | _open(adapter.json_schema(mode="serialization", schema_generator=_Schema))
        for name, adapter in DOCUMENTS.items()
    }


def _open(schema: Any) -> Any:
    """`schema` without the closed objects of the recipe's sections, which refuse unknown fields when they are read."""
    if isinstance(schema, list):
        return [_open(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _open(value) for name, value in schema.items() if (name, value) != ("additionalProperties", False)}


def main(folder: Path) -> None:
    """Writes the schemas to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (folder / f"{name}.schema.json").write_text(json.dumps(schema, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
