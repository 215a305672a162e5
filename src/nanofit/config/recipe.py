"""The Recipe: the one validated, frozen description of a run that all rooms share. No torch.

Each field has its name, its unit and its check here and nowhere else. `recipe_files.py` reads recipes, `nanogpt_config.py`
nanoGPT's own config files; `recipe_writing.py` writes them.
"""

from dataclasses import replace
from math import prod
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from nanofit.common.errors import UserError, nearest, quoted
from nanofit.common.quantities import GROUP_TOKENS, hours, token_count
from nanofit.common.units import counted, hours_text, number
from nanofit.config.architecture import Architecture, ModelConfig
from nanofit.config.hyperparameters import OptimizerName, OptimizerSettings, optimizer_defaults
from nanofit.config.recipe_errors import explain
from nanofit.config.schedule import Schedule, Shape
from nanofit.config.vocabulary import CHARACTERS, Vocabulary, vocabulary_of
from nanofit.hardware.execution import Precision

FORMAT_VERSION = 1

MAX_WHOLE_NUMBER = 2**64 - 1
"""Of every field: torch takes no larger seed, and products of a few such numbers are still floats."""

MAX_HOURS = 1e6
"""A century and more; much beyond it, seconds and tokens are no longer floats."""

MAX_CARDS = 100_000
"""More than any cluster has; far beyond, figures of a plan are no longer floats."""

Checkpointing = Literal["off", "half", "all"]

Tokens = Annotated[int, BeforeValidator(token_count)]
Hours = Annotated[float, BeforeValidator(hours)]


def _resume_is_scratch(value: Any) -> Any:
    """nanoGPT's `init_from = 'resume'` needs no setting here: the same command again resumes."""
    return "scratch" if value == "resume" else value


def loss_chunk_tokens(tokens: int, vocab_size: int) -> int:
    """Tokens whose logits exist at once, for a micro-batch of `tokens`.

    An eighth of them, but at least 512, where the products are fast, and at most 2048, beyond which only memory grows
    (docs/log.md, 2026-11-24). All of them where that is little anyway.
    """
    if tokens * vocab_size <= 2**24:
        return tokens
    return min(max(-(-tokens // 8), 512), 2048)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _countable(self) -> "_Section":
        for name, value in self:
            if isinstance(value, int) and value > MAX_WHOLE_NUMBER:
                raise ValueError(f"{name} = {number(value)} must be at most {number(MAX_WHOLE_NUMBER)}")
        return self


class ModelSection(_Section):
    arch: Architecture = Field(default="nanochat", description="architecture: gpt2, nanochat or qwen3")
    n_layer: int = Field(default=12, ge=1, description="blocks")
    n_head: int = Field(default=12, ge=1, description="attention heads a block")
    n_kv_head: int | None = Field(default=None, ge=1, description="heads of keys and values; as n_head unless given")
    n_embd: int = Field(default=768, ge=1, description="width of the residual stream")
    block_size: int = Field(default=1024, ge=1, le=GROUP_TOKENS, description="context, tokens per window")
    vocab_size: int | None = Field(
        default=None, ge=1, description="rows of the embedding; follows the tokenizer unless given"
    )
    gelu: Literal["tanh", "exact"] = Field(
        default="tanh", description="tanh (OpenAI, llm.c, llama.cpp) or exact (nanoGPT)"
    )
    bias: bool = Field(default=False, description="biases in projections and norms")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of activations dropped in training")
    init_from: Annotated[
        Literal["scratch", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"], BeforeValidator(_resume_is_scratch)
    ] = Field(
        default="scratch", description="initial weights: scratch, or OpenAI's gpt2, gpt2-medium, gpt2-large, gpt2-xl"
    )


class DataSection(_Section):
    source: str = Field(
        default="python",
        min_length=1,
        description="fineweb, fineweb-edu, hf://datasets/OWNER/NAME, a file or folder of text, shards, or python",
    )
    tokenizer: Literal["gpt2", "bytes", "characters"] = Field(
        default="gpt2",
        description="gpt2 (50257 ids), bytes (257 ids), or characters (of nanoGPT's character-level data)",
    )
    characters: str | None = Field(
        default=None, min_length=1, description="the vocabulary of tokenizer characters, in the order of its ids"
    )
    val_tokens: Tokens = Field(
        default=10_485_760, ge=1, description="tokens of validation (at most a tenth of the source)"
    )
    folder: str | None = Field(
        default=None, description="where the shards lie; a folder of the source's own in data/ unless given"
    )

    @model_validator(mode="after")
    def _characters_have_their_tokenizer(self) -> "DataSection":
        if self.tokenizer == CHARACTERS and self.characters is None:
            raise ValueError(
                "tokenizer characters is for data that brings its vocabulary: give as source a folder with nanoGPT's "
                "train.bin, val.bin and meta.pkl"
            )
        if self.tokenizer != CHARACTERS and self.characters is not None:
            raise ValueError(f"characters are given, and tokenizer {self.tokenizer} has none: leave one of them out")
        if self.characters is not None and len(set(self.characters)) < len(self.characters):
            raise ValueError("characters names one twice: every character has one id")
        return self


class BatchSection(_Section):
    micro_batch: int = Field(default=12, ge=1, description="windows a forward pass")
    grad_accum: int = Field(default=1, ge=1, description="forward passes an optimizer step, over all cards")


class OptimizerSection(_Section):
    optimizer: OptimizerName = Field(
        default="muon", description="muon (AdamW beside it for all but matrices), adamw, or adamw8bit"
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="peak rate of the matrices; with AdamW also of what has none of its own"
    )
    embedding_lr: float | None = Field(default=None, gt=0, description="peak rate of the embeddings")
    head_lr: float | None = Field(default=None, gt=0, description="peak rate of an untied head")
    vector_lr: float | None = Field(default=None, gt=0, description="peak rate of gains and biases")
    weight_decay: float | None = Field(default=None, ge=0, description="decoupled weight decay of the matrices")
    decay_embeddings: bool | None = Field(
        default=None, description="weight decay also on embeddings and the head, as in nanoGPT; off unless given"
    )
    momentum: float | None = Field(default=None, ge=0, lt=1, description="Muon's momentum")
    beta1: float | None = Field(default=None, ge=0, lt=1, description="AdamW: decay of the gradient's running mean")
    beta2: float | None = Field(default=None, ge=0, lt=1, description="AdamW: decay of its running square")
    grad_clip: float | None = Field(default=None, ge=0, description="largest gradient norm; 0 is no clipping")


class ScheduleSection(_Section):
    schedule: Shape = Field(default="wsd", description="cosine, linear, wsd (constant, then linear) or constant")
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear warm-up")
    decay_steps: int | None = Field(
        default=None, ge=1, description="step at which decay ends; the run's end unless given"
    )
    decay_fraction: float = Field(default=0.7, gt=0, le=1, description="share of the steps over which wsd decays")
    min_lr: float = Field(default=0.0, ge=0, description="learning rate at the end of decay")


class BudgetSection(_Section):
    tokens: Tokens | None = Field(default=None, ge=1, description="tokens to train on (10B, 500M, 1e10)")
    steps: int | None = Field(default=None, ge=1, description="optimizer steps")
    hours: Hours | None = Field(
        default=None,
        gt=0,
        le=MAX_HOURS,
        description="hours of wall-clock, everything included (8, 8h, 30m, 1d12h, 1:30)",
    )

    @model_validator(mode="after")
    def _one_budget(self) -> "BudgetSection":
        given = {name: value for name, value in self if value is not None}
        if len(given) != 1:
            named = " and ".join(f"{name} = {number(value)}" for name, value in given.items()) or "none given"
            raise ValueError(f"a run has one budget, tokens, steps or hours: {named}")
        return self


class RunSection(_Section):
    out: str | None = Field(default=None, min_length=1, description="run folder; runs/NAME-OF-THE-RECIPE unless given")
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:1 or mps"
    )
    precision: Precision | Literal["auto"] = Field(
        default="auto", description="of the forward pass; weights stay float32; auto: float32 on a CPU"
    )
    compile: bool | Literal["auto"] = Field(
        default="auto", description="torch.compile; auto: on CUDA, and on a CPU for runs of over 10 minutes"
    )
    checkpointing: Checkpointing = Field(
        default="off",
        description="activations computed again in the backward pass: off, half (every second block), all",
    )
    loss_chunk: int | None = Field(
        default=None, ge=1, description="tokens whose logits exist at once; chosen by the vocabulary unless given"
    )
    gpus: int = Field(default=1, ge=1, le=MAX_CARDS, description="equal cards that train together, data parallel")
    seed: int = Field(default=1337, ge=0, description="of initialisation, data order and dropout")
    eval_interval: int = Field(default=250, ge=1, description="steps between evaluations")
    eval_tokens: Tokens = Field(
        default=10_485_760, ge=1, description="most tokens of the validation split an evaluation reads"
    )
    checkpoint_interval: int = Field(default=1000, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1, description="newest checkpoints that are kept")
    log_interval: int = Field(default=10, ge=1, description="steps between logged lines")
    logging: Literal["none", "wandb", "trackio", "tensorboard"] = Field(
        default="none", description="a second log, besides ours"
    )
    logging_project: str = Field(default="nanofit", description="its project")
    logging_name: str | None = Field(default=None, description="its name for the run; the run folder's unless given")


class Recipe(_Section):
    """A whole run: model, data, batch, optimizer, schedule, budget and how it is run."""

    model: ModelSection = Field(default_factory=lambda: ModelSection())
    data: DataSection = Field(default_factory=lambda: DataSection())
    batch: BatchSection = Field(default_factory=lambda: BatchSection())
    optimizer: OptimizerSection = Field(default_factory=lambda: OptimizerSection())
    schedule: ScheduleSection = Field(default_factory=lambda: ScheduleSection())
    budget: BudgetSection
    run: RunSection = Field(default_factory=lambda: RunSection())

    @model_validator(mode="after")
    def _agrees(self) -> "Recipe":
        needed = self.vocabulary.size
        if self.model.vocab_size is not None and self.model.vocab_size < needed:
            raise ValueError(
                f"vocab_size {self.model.vocab_size} is smaller than the {needed} ids of tokenizer {self.data.tokenizer}"
            )
        peak = self.optimizer_settings.learning_rate
        if self.schedule.schedule != "constant" and self.schedule.min_lr > peak:
            raise ValueError(f"min_lr {number(self.schedule.min_lr)} is larger than learning_rate {number(peak)}")
        self.model_config_of_run()  # raises where two of its values disagree
        return self

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the recipe's tokenizer."""
        return vocabulary_of(self.data.tokenizer, self.data.characters)

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, padding included."""
        return self.model.vocab_size or self.vocabulary.padded_size

    @property
    def tokens_per_step(self) -> int:
        return self.batch.micro_batch * self.batch.grad_accum * self.model.block_size

    @property
    def windows_per_step(self) -> int:
        return self.batch.micro_batch * self.batch.grad_accum

    @property
    def steps(self) -> int | None:
        """Optimizer steps of the run, a token budget rounded up to whole steps; None when hours set them."""
        if self.budget.tokens is not None:
            return -(-self.budget.tokens // self.tokens_per_step)
        return self.budget.steps

    @property
    def optimizer_settings(self) -> OptimizerSettings:
        """The [optimizer] section in full: what it leaves open follows from the optimizer and the size of the run."""
        given: dict[str, Any] = {name: value for name, value in self.optimizer if value is not None}
        defaults = optimizer_defaults(
            self.optimizer.optimizer,
            tokens_per_step=self.tokens_per_step,
            steps=self.steps,
            n_embd=self.model.n_embd,
            learning_rate=self.optimizer.learning_rate,
        )
        return replace(defaults, **given)

    @property
    def loss_chunk(self) -> int:
        """Tokens of a micro-batch whose logits exist at once."""
        return self.loss_chunk_of(self.batch.micro_batch)

    def loss_chunk_of(self, micro_batch: int) -> int:
        """The same, were the micro-batch this one."""
        tokens = micro_batch * self.model.block_size
        return min(self.run.loss_chunk or loss_chunk_tokens(tokens, self.vocab_size), tokens)

    @property
    def recomputed_blocks(self) -> frozenset[int]:
        """The blocks whose activations are dropped and computed again."""
        step = {"off": None, "half": 2, "all": 1}[self.run.checkpointing]
        return frozenset(range(0, self.model.n_layer, step)) if step else frozenset()

    @property
    def budget_text(self) -> str:
        """The budget as a person says it: `2,000 steps`."""
        if self.budget.hours is not None:
            return hours_text(self.budget.hours)
        return next(counted(value, name.removesuffix("s")) for name, value in self.budget if value is not None)

    def model_config_of_run(self) -> ModelConfig:
        """The shape of the model, every derived value filled in."""
        fields: dict[str, Any] = self.model.model_dump(exclude={"init_from"}) | {
            "vocab_size": self.vocab_size,
            "unpadded_vocab_size": self.vocabulary.size,
        }
        return ModelConfig(**fields)

    def schedule_over(self, steps: int) -> Schedule:
        """The learning-rate schedule of a run of `steps` steps."""
        return Schedule(
            shape=self.schedule.schedule,
            peak=self.optimizer_settings.learning_rate,
            floor=self.schedule.min_lr,
            warmup_steps=self.schedule.warmup_steps,
            decay_end=self.schedule.decay_steps or steps,
            decay_fraction=self.schedule.decay_fraction,
        )

    def flat(self) -> dict[str, Any]:
        """Every field by its name, as the command line knows it."""
        return {name: value for _, section in self for name, value in section}

    def with_values(self, **values: Any) -> "Recipe":
        """This recipe with `values` laid over it, by any of their names. Raises UserError as `build_recipe` does."""
        return build_recipe(lay_over(self.flat(), values))


SECTIONS: dict[str, type[_Section]] = {
    "model": ModelSection,
    "data": DataSection,
    "batch": BatchSection,
    "optimizer": OptimizerSection,
    "schedule": ScheduleSection,
    "budget": BudgetSection,
    "run": RunSection,
}

SECTION_OF_FIELD = {field: name for name, section in SECTIONS.items() for field in section.model_fields}

FLAGS = frozenset(
    name
    for section in SECTIONS.values()
    for name, info in section.model_fields.items()
    if bool in (info.annotation, *get_args(info.annotation))
)
"""Fields that take true and false."""

SYNONYMS = {
    "dataset": "source",
    "batch_size": "micro_batch",
    "gradient_accumulation_steps": "grad_accum",
    "warmup_iters": "warmup_steps",
    "lr_decay_iters": "decay_steps",
    "max_iters": "steps",
    "out_dir": "out",
    "dtype": "precision",
    "wandb_project": "logging_project",
    "wandb_run_name": "logging_name",
}
"""nanoGPT's names for our fields, accepted everywhere."""

BUDGETS = ("tokens", "steps", "hours")


CONVERTED = {"eval_iters": "eval_tokens", "decay_lr": "schedule", "wandb_log": "logging"}
"""nanoGPT's settings that say the same as one of our fields in other words."""


def known_names() -> list[str]:
    """Every name that a recipe file or an option may use."""
    return [*SECTION_OF_FIELD, *SYNONYMS, *CONVERTED]


def field_of(name: str) -> str:
    """The field that `name` sets, under whichever of its names."""
    return SYNONYMS.get(name, CONVERTED.get(name, name))


def lay_over(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`base` with `overrides` laid over it, flat names of any kind; a budget replaces the base's, whatever its kind."""
    replaced = {field_of(name) for name in overrides}
    if replaced & set(BUDGETS):
        replaced |= set(BUDGETS)
    return {name: value for name, value in base.items() if field_of(name) not in replaced} | overrides


def build_recipe(values: dict[str, Any]) -> Recipe:
    """A recipe from flat names, nanoGPT's included; raises UserError with all that is wrong, in one line."""
    sections: dict[str, dict[str, Any]] = {"budget": {}}
    for name, value in in_our_words(values).items():
        if name not in SECTION_OF_FIELD:
            raise UserError(f"unknown recipe field '{name}'{nearest(name, known_names())}")
        sections.setdefault(SECTION_OF_FIELD[name], {})[name] = _plain(name, value)
    try:
        return Recipe(**sections)  # pyright: ignore[reportArgumentType] (pydantic checks the sections)
    except ValidationError as error:
        descriptions = {
            name: SECTIONS[section].model_fields[name].description or "" for name, section in SECTION_OF_FIELD.items()
        }
        spelled = {SYNONYMS[name]: name for name in values if name in SYNONYMS}
        raise UserError(explain(error.errors(), descriptions, spelled)) from None


def _plain(name: str, value: Any) -> Any:
    """`value` for pydantic, which would read true as the number 1: a field that takes no flag gets its text instead.

    Raises UserError for text that can't be written to a file, or name one.
    """
    if isinstance(value, bool) and name not in FLAGS:
        return str(value).lower()
    if isinstance(value, str) and any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value):
        raise UserError(f"{name} = {quoted(value)} holds a NUL character or half of a surrogate pair: leave it out")
    return value


def in_our_words(values: dict[str, Any]) -> dict[str, Any]:
    """The same values under our names alone. Raises UserError where two names of one field disagree."""
    ours: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for name, value in values.items():
        field = field_of(name)
        if field in spelled and (name in CONVERTED or spelled[field] in CONVERTED or ours[field] != value):
            raise UserError(f"{spelled[field]} = {values[spelled[field]]} and {name} = {value} set the same: keep one")
        spelled[field] = name
        if name not in CONVERTED:
            ours[field] = value
    if "eval_iters" in values:
        factors = {
            "eval_iters": values["eval_iters"],
            spelled.get("micro_batch", "batch_size"): ours.get("micro_batch", BatchSection().micro_batch),
            "block_size": ours.get("block_size", ModelSection().block_size),
        }
        ours["eval_tokens"] = prod(_whole_number(name, factor) for name, factor in factors.items())
    if "decay_lr" in values:
        if read_flag("decay_lr", values["decay_lr"]):
            ours["schedule"] = "cosine"
        else:  # nanoGPT then reads none of its other settings of the schedule
            ours |= {"schedule": "constant", "warmup_steps": 0, "decay_steps": None, "min_lr": 0.0}
    if "wandb_log" in values:
        ours["logging"] = "wandb" if read_flag("wandb_log", values["wandb_log"]) else "none"
    return ours


def _whole_number(name: str, value: Any) -> int:
    try:
        if value == int(value) >= 1:
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UserError(f"{name} is a whole number, 1 or more, not {quoted(value)}")


def read_flag(name: str, value: Any) -> bool:
    """`value` as True or False. Raises UserError for anything else."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise UserError(f"{name} is True or False, not {quoted(value)}")
    return value
