"""What the guide claims of its settings, held against what is counted or computed here.

Claims about one tier come from its preset. The others are about the guide as a whole, with figures for that tier where it has
any. Each has its source: a count, one of nanofit's models, or a publication.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from nanofit.common.units import figure, hours_text, quantity
from nanofit.config.architecture import ModelConfig, count_parameters
from nanofit.config.presets import PRESETS, Preset
from nanofit.config.recipe import Recipe
from nanofit.data.preparing.source_facts import PUBLISHED_TOKENS
from nanofit.hardware.gpu_names import find
from nanofit.hardware.gpus import Gpu
from nanofit.planning.loss.law import context_shift
from nanofit.planning.plan import Plan
from nanofit.planning.predict import GIB, pace, speed_on, step_on
from nanofit.planning.rules import recommended_learning_rate, step_law_batch

GPT2_MEDIUM = ModelConfig(n_layer=24, n_head=16, n_embd=1024, block_size=1024, vocab_size=50304)
GPT2_LARGE = ModelConfig(n_layer=36, n_head=20, n_embd=1280, block_size=1024, vocab_size=50304)

CLAIMED_RATES = ((124, "6e-4 to 8e-4", 8e-4), (354, "5e-4 to 6e-4", 6e-4), (774, "3e-4", 3e-4))
"""Millions of parameters, the guide's learning rates for about so many, and the largest of them."""

SHORT_RUN_HOURS = 6.0
"""Of a run in which the guide's warm-up does harm."""

LONG_RUN_TOKENS = 50e9
"""The least that the guide wants a run to see; it says 50 to 100B."""


@dataclass(frozen=True)
class Claim:
    """What the guide `says`, what is `true`, and the `source` of that."""

    says: str
    true: str
    source: str

    def document(self) -> dict[str, str]:
        """As `nanofit guide --json` prints it."""
        return asdict(self)

    def text(self) -> str:
        """The claim as one line."""
        return f'the guide says "{self.says}": {self.true} ({self.source})'


def claims_of_recipe(plan: Plan) -> list[Claim]:
    """The claims about the plan's recipe, where that has the model and the batch of one of the guide's."""
    for preset in PRESETS.values():
        guides, own = preset.recipe(), plan.recipe
        if (guides.model, guides.batch) == (own.model, own.batch):
            same_length = guides.budget == own.budget and guides.schedule == own.schedule
            return [claim for claim, of_length in _of_tier(preset, plan) if same_length or not of_length]
    return []


def claims_of_tier(preset: Preset, plan: Plan) -> list[Claim]:
    """The guide's claims about `preset`; `plan` is that of its recipe."""
    return [claim for claim, _ in _of_tier(preset, plan)]


def _of_tier(preset: Preset, plan: Plan) -> Iterator[tuple[Claim, bool]]:
    """Each claim, and whether it is about the length of the run."""
    recipe, machine = plan.recipe, plan.machine
    config = recipe.model_config_of_run()
    counts = count_parameters(config)
    positions = config.block_size * config.n_embd
    true = (
        f"{quantity(counts.total)}, {quantity(counts.non_embedding)} of them in the blocks, "
        f"{quantity(config.vocab_size * config.n_embd)} in the embedding, which is the head too, {quantity(positions)} in positions"
    )
    if config.n_layer == 12 and config.n_embd == 768:
        medium = quantity(count_parameters(GPT2_MEDIUM).total)
        true += f"; this is GPT-2 small, GPT-2 medium is 24 x 16 x 1024, {medium}"
    yield Claim(f"{preset.claimed_params} parameters", true, "counted"), False
    if preset.claimed_tokens is not None:
        batch, steps = recipe.batch, recipe.budget.steps or 0
        product = f"{steps:,} x {batch.micro_batch} x {batch.grad_accum} x {config.block_size:,}"
        tokens = quantity(steps * recipe.tokens_per_step)
        yield Claim(f"{preset.claimed_tokens} tokens", f"{product} is {tokens}", "counted"), True
    of_memory = f"{preset.claimed_vram} of VRAM" if preset.claimed_vram else f"batch_size {recipe.batch.micro_batch}"
    source = "closed form, which a trace of the eager step agrees with within 0.002%"
    yield Claim(of_memory, _memory(plan, find(preset.card)), source), False
    wrong = [name for name in preset.named_cards if not preset.has_memory_of(find(name))]
    if wrong:
        each = ", ".join(f"the {find(name).name} has {find(name).vram_gib:g} GB" for name in wrong)
        yield Claim(f"cards of {preset.cards}", each, "the makers' data sheets, as in nanofit gpus"), False
    if machine is not None and recipe.schedule.warmup_steps and recipe.schedule.schedule != "constant":
        warmup = recipe.schedule.warmup_steps
        short = pace(recipe, speed_on(step_on(recipe, machine), machine).mid, machine).steps_in(SHORT_RUN_HOURS)
        share = warmup / max(short, 1)
        of_short = f"{share:.0%} of" if share < 1 else "longer than"
        true = (
            f"{quantity(warmup * recipe.tokens_per_step)} tokens: {warmup / (recipe.budget.steps or warmup):.0%} of these steps, but "
            f"{of_short} the {short:,} steps of a run of {hours_text(SHORT_RUN_HOURS)} on {machine.gpu.name}"
        )
        yield Claim(f"warm up for {warmup:,} iterations", true, "counted, and the predicted speed"), True


def _memory(plan: Plan, of_guide: Gpu) -> str:
    """What the plan's micro-batch takes, beside the card in question: the plan's, or the guide's where it has none."""
    card = plan.machine.gpu if plan.machine is not None else of_guide
    recipe, chunked = plan.recipe, plan.predicted.expected_allocated_gib
    of_code = {
        "compiled, as it does unless told otherwise": nanogpt_bytes(recipe, compiled=True) / GIB,
        "not compiled": nanogpt_bytes(recipe, compiled=False) / GIB,
    }
    takes = " and ".join(
        f"{gib:.0f} GiB {how}{', more than the card has' if gib > card.vram_gib else ''}"
        for how, gib in of_code.items()
    )
    with_chunks = f"; with the loss in chunks {chunked:.0f} GiB" if chunked is not None else ""
    return f"nanoGPT's tensors take {takes} (the {card.name} has {card.vram_gib:g}){with_chunks}"


def general_claims(plan: Plan, ours: Plan) -> list[Claim]:
    """The guide's claims about training as such, with figures for the tier of `plan`; `ours` is nanofit's plan for as many hours."""
    machine = plan.machine
    assert machine is not None
    published = quantity(PUBLISHED_TOKENS["fineweb"])
    return [
        *_of_rates(),
        _of_batch(),
        _of_context(),
        _of_length(plan, ours),
        _of_compilation(plan),
        Claim(
            "FineWeb is a cleaned set of 100B tokens, which trained LLaMA and Mistral",
            f"{published} tokens and more; sample-10BT, 100BT and 350BT are samples of it; it came out in 2024, after both",
            "the dataset's card",
        ),
        Claim(
            "FineWeb was filtered and trained with a context of 1024 and more",
            "its documents are of any length and have no context; 1024 is nanoGPT's and GPT-2's",
            "the dataset's card",
        ),
    ]


def _of_rates() -> Iterator[Claim]:
    for millions, said, rate in CLAIMED_RATES:
        config = {124: replace(GPT2_MEDIUM, n_layer=12, n_head=12, n_embd=768), 354: GPT2_MEDIUM, 774: GPT2_LARGE}[
            millions
        ]
        rule = recommended_learning_rate(config, "adamw", tokens=LONG_RUN_TOKENS, tokens_per_step=2**19)
        yield Claim(
            f"learning rate {said} at about {millions}M",
            f"the rule gives {figure(rule, 2)}, {figure(rule / rate, 2)} times as much, for {quantity(LONG_RUN_TOKENS)} tokens in "
            "batches of 524,288",
            "Step Law, arXiv:2503.04715, less 40% without QK-norm",
        )


def _of_batch() -> Claim:
    # Step Law's batch grows with a power of the tokens, so the tokens at which it is half a million follow from it.
    low, high = 1e8, 1e12
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if step_law_batch(middle) < 2**19 else (low, middle)
    small = figure(step_law_batch(1e9), 2)
    return Claim(
        "an effective batch of about 512 sequences, 0.5M tokens",
        f"the best for AdamW at {quantity(high)} tokens, and Muon bears it earlier; at 1B tokens {small} tokens per step are better",
        "Step Law, arXiv:2503.04715",
    )


def _of_context() -> Claim:
    shift = context_shift(512)
    return Claim(
        "block_size 1024, or perplexity worsens",
        f"windows of 512 read {shift.low:.2f} to {shift.high:.2f} nats higher, since early tokens have less before them; they are "
        "quicker, and it is no rule of FineWeb's",
        "the context term of the loss law",
    )


def _of_length(plan: Plan, ours: Plan) -> Claim:
    machine, recipe = plan.machine, plan.recipe
    assert machine is not None and plan.predicted.hours is not None and ours.predicted.tokens is not None
    steps = round(LONG_RUN_TOKENS / recipe.tokens_per_step)
    hours = pace(recipe, speed_on(step_on(recipe, machine), machine).mid, machine).hours_of(steps)
    better = ""
    before, after = plan.predicted.val_loss, ours.predicted.val_loss
    if before is not None and after is not None:
        better = (
            f"; in {hours_text(plan.predicted.hours.mid)} there, {quantity(ours.predicted.params_total)} parameters on "
            f"{quantity(ours.predicted.tokens)} reach {after.mid:.2f}, where these settings reach {before.mid:.2f}"
        )
    return Claim(
        "train on 50 to 100B tokens",
        f"{quantity(LONG_RUN_TOKENS)} take {hours_text(hours)} with this model on {machine.gpu.name}{better}",
        "the predicted speed, and the loss law",
    )


def _of_compilation(plan: Plan) -> Claim:
    machine = plan.machine
    assert machine is not None
    step = step_on(plan.recipe, machine)
    compiled, eager = (speed_on(replace(step, compiles=compiles), machine).mid for compiles in (True, False))
    return Claim(
        "compile = True is 20 to 30% faster",
        f"nanoGPT compiles unless told otherwise; {compiled / eager - 1:.0%} faster is predicted for this model on {machine.gpu.name}",
        "nanoGPT's train.py, and the speed model",
    )


def nanogpt_bytes(recipe: Recipe, *, compiled: bool) -> float:
    """Peak bytes of tensors of nanoGPT's own step (bf16 autocast, flash attention, AdamW fused, all logits at once, in float32
    besides): 13.54 GiB for GPT-2 124M at 12 x 1024 (7.8 compiled), 4 bytes per parameter more with accumulation.

    With P parameters, M of them in matrices (the tied head counted), N tokens per micro-batch: 12P + 2M + N[L(36C + 4H + 16) + 6C +
    8 + 6V] + 8VN. The form agrees with a trace of nanoGPT within 0.002% (docs/log.md). Compiled, 4VN stand for 14VN: fused
    kernels keep no float32 logits.
    """
    config = recipe.model_config_of_run()
    counts, tokens = count_parameters(config), recipe.batch.micro_batch * config.block_size
    block = config.n_layer * (36 * config.n_embd + 4 * config.n_head + 16)
    return (
        (16 if recipe.batch.grad_accum > 1 else 12) * counts.total
        + 2 * counts.matmul
        + tokens * (block + 6 * config.n_embd + 8 + (4 if compiled else 14) * config.vocab_size)
    )
