"""The user's own settings on a card: what they really give, the mistakes in them, and the better plan beside them."""

from collections.abc import Iterator
from dataclasses import replace

from nanofit.common.errors import UserError
from nanofit.common.units import figure, quantity
from nanofit.config.recipe import Recipe
from nanofit.planning.chosen_recipe import recipe_of, rounded
from nanofit.planning.guide_claims import claims_of_recipe
from nanofit.planning.loss.law import decay_price, expected_loss
from nanofit.planning.loss_vs_hours import printed
from nanofit.planning.machine import Machine
from nanofit.planning.plan import Alternative, Plan, plan_recipe
from nanofit.planning.plan_warnings import notes_of
from nanofit.planning.predict import GIB, final_rate_share, peak_on, predict, rests_on, speed_on, step_on
from nanofit.planning.rules import best_batch, recommended_learning_rate, recommended_warmup_steps
from nanofit.planning.search import MICRO_BATCHES, Goal, Search

LONGEST_WARMUP = 0.1
"""Of a run, that warm-up may take."""

HIGH_END = 0.15
"""Of the peak rate: a run that ends above it has not decayed."""

FAR_FROM_THE_RULE = 2.0
"""Times, up or down, from which on a learning rate is talked about."""

UNSTABLE_BATCH = 1 / 8
WASTEFUL_BATCH = 4.0
"""Of the best batch: below, gradients are so noisy that runs diverge at usual rates; above, there are too few steps."""

WORTHWHILE = 1.05
"""How many times as fast a larger micro-batch must be to be worth a word."""

FAST_HEADS = (64, 96, 128, 192, 256)


def audit(recipe: Recipe, machine: Machine, warnings: tuple[str, ...] = ()) -> Plan:
    """The plan of `recipe` as it stands, what is wrong with it, and what the card could do in the same time instead.

    A machine of several cards, or of one card that is named, replaces the number of cards of the recipe.
    """
    if recipe.run.gpus != machine.cards and not machine.is_cpu:
        recipe = recipe.with_values(gpus=machine.cards)
    plan = plan_recipe(recipe, warnings, machine=machine)
    claims = [claim.text() for claim in claims_of_recipe(plan)]
    more = ["nanofit guide judges what the guide claims besides"] if claims else []
    found = [*claims, *more, *findings(plan), *notes_of(plan)]
    return replace(
        plan,
        warnings=(*plan.warnings, *found),
        because=(f"the settings are taken as they stand; the speed rests on {rests_on(recipe, machine)}",),
        alternatives=tuple(_alternatives(plan, machine)),
    )


def findings(plan: Plan) -> list[str]:
    """The mistakes in the plan's recipe that are recognised, a line each: what, what it costs, the mend."""
    assert plan.machine is not None
    recipe, machine = plan.recipe, plan.machine
    return [
        *_of_schedule(plan),
        *_of_memory(recipe, machine),
        *_of_rate_and_batch(plan),
        *_of_shape(recipe),
    ]


def _of_schedule(plan: Plan) -> Iterator[str]:
    recipe, steps = plan.recipe, plan.predicted.steps
    assert steps is not None
    share = final_rate_share(recipe, steps)
    is_cut_off = (recipe.schedule.decay_steps or 0) > steps  # `schedule_warnings` speaks of that
    if share > HIGH_END and not (is_cut_off and recipe.schedule.schedule != "constant"):
        price = decay_price(share)
        yield (
            f"the learning rate ends at {share:.0%} of its peak, which costs about {price.mid:.2f} nats "
            f"({price.low:.2f} to {price.high:.2f}): let it decay to zero at the end of the run (schedule, min_lr)"
        )
    warmup = recipe.schedule.warmup_steps
    if LONGEST_WARMUP * steps < warmup < steps:
        wanted = recommended_warmup_steps(recipe.optimizer.optimizer, steps)
        yield (
            f"warm-up takes {warmup:,} of {steps:,} steps, {warmup / steps:.0%} of the run: {wanted} are enough "
            "(warmup_steps, warmup_iters)"
        )


def _of_memory(recipe: Recipe, machine: Machine) -> Iterator[str]:
    step = step_on(recipe, machine)
    peak = peak_on(step, machine) / GIB
    if peak > machine.budget_gib:
        largest = _largest_micro_batch(recipe, machine)
        mend = (
            f"micro_batch {largest} fits (grad_accum {-(-recipe.windows_per_step // largest)} keeps the batch)"
            if largest
            else "no micro-batch of this model fits: checkpointing = 'all', or a smaller model"
        )
        yield (
            f"micro-batch {recipe.batch.micro_batch} is guaranteed to fit in {peak:.1f} GiB only, and a run can count on "
            f"{machine.budget_gib:.1f} of {machine.gpu.name}: {mend}"
        )
        return
    largest = _largest_micro_batch(recipe, machine)
    passes = -(-recipe.windows_per_step // (largest * machine.cards)) if largest else 0
    if largest >= 2 * recipe.batch.micro_batch and recipe.batch.grad_accum > machine.cards:
        better = replace(
            step,
            micro_batch=largest,
            grad_accum=max(passes, 1),
            loss_chunk=recipe.loss_chunk_of(largest),
        )
        gain = speed_on(better, machine).mid / speed_on(step, machine).mid
        if gain > WORTHWHILE:
            yield (
                f"micro-batch {recipe.batch.micro_batch} wastes the card: {peak:.1f} of {machine.budget_gib:.1f} GiB are used; "
                f"micro_batch {better.micro_batch} with grad_accum {better.grad_accum} trains {gain:.2f} times as fast"
            )


def _largest_micro_batch(recipe: Recipe, machine: Machine) -> int:
    """The largest of the usual micro-batches that fits with all else as it is; 0 if none does."""
    step, fitting = step_on(recipe, machine), 0
    for micro_batch in MICRO_BATCHES:
        if micro_batch > recipe.windows_per_step:
            break
        tried = replace(step, micro_batch=micro_batch, grad_accum=2, loss_chunk=recipe.loss_chunk_of(micro_batch))
        if peak_on(tried, machine) > machine.budget_gib * GIB:
            break
        fitting = micro_batch
    return fitting


def _of_rate_and_batch(plan: Plan) -> Iterator[str]:
    recipe, tokens = plan.recipe, plan.predicted.tokens
    assert tokens is not None
    settings, config = recipe.optimizer_settings, recipe.model_config_of_run()
    best = best_batch(settings.optimizer, tokens)
    batch = recipe.tokens_per_step
    if batch < UNSTABLE_BATCH * best:
        yield (
            f"a batch of {batch:,} tokens is {best / batch:.0f} times smaller than the best for {quantity(tokens)} tokens "
            f"({best:,.0f}): gradients are noisy, and runs of this kind diverge; raise grad_accum, or lower the learning rate"
        )
    elif batch > WASTEFUL_BATCH * best:
        yield (
            f"a batch of {batch:,} tokens is {batch / best:.0f} times the best for {quantity(tokens)} tokens ({best:,.0f}): "
            "fewer, larger steps learn less from the same tokens; lower grad_accum"
        )
    rule = recommended_learning_rate(config, settings.optimizer, tokens=tokens, tokens_per_step=batch)
    ratio = settings.learning_rate / rule
    if not 1 / FAR_FROM_THE_RULE <= ratio <= FAR_FROM_THE_RULE:
        far = f"{ratio:.1f} times" if ratio > 1 else f"{1 / ratio:.1f} times below"
        cost = ""
        if plan.predicted.val_loss is not None:
            given, ruled = (
                expected_loss(config, settings.optimizer, tokens=tokens, tokens_per_step=batch, learning_rate=rate).mid
                for rate in (settings.learning_rate, rule)
            )
            cost = f", which costs about {given - ruled:.3f} nats"
        yield f"learning rate {figure(settings.learning_rate)} is {far} the rule's {figure(rule, 2)}{cost} (learning_rate)"


def _of_shape(recipe: Recipe) -> Iterator[str]:
    config = recipe.model_config_of_run()
    if config.head_size not in FAST_HEADS:
        heads = [config.n_embd // size for size in (64, 128) if config.n_embd % size == 0]
        mend = f"n_head {heads[0]}" if heads else "an n_embd that is a multiple of 64"
        yield f"heads of {config.head_size}: attention kernels are fast in 64 and 128; use {mend}"
    if recipe.vocab_size % 64:
        padded = -(-recipe.vocab_size // 64) * 64
        yield f"a vocabulary of {recipe.vocab_size:,} rows is slow in the head: pad it to {padded:,} (vocab_size)"


def _alternatives(plan: Plan, machine: Machine) -> Iterator[Alternative]:
    """What the card does with the same hours, and the user's own model with its mistakes mended."""
    recipe, predicted = plan.recipe, plan.predicted
    assert predicted.hours is not None
    hours = predicted.hours.mid
    data = recipe.data
    pinned = {
        "source": data.source,
        "tokenizer": data.tokenizer,
        "characters": data.characters,
        "block_size": recipe.model.block_size,
    }
    goal = Goal(machine, hours, None, pinned, plan.facts)
    try:
        better = recipe_of(Search(goal).best, goal)
    except UserError:
        better = None  # so little time, or memory, that no plan of ours makes sense either
    for words, other in (
        ("the better plan for the same hours", better),
        ("the same model, mended", _mended(plan, machine)),
    ):
        if other is None:
            continue
        other_predicted = predict(other, machine, plan.facts)
        before, after = predicted.val_loss, other_predicted.val_loss
        gain = ""
        if before is None and predicted.fits and other is better:
            words = "nanofit's plan for these hours"  # whether it is better, no law says
        if before is not None and after is not None:
            lower = printed(before.mid) - printed(after.mid)
            if lower <= 0 and predicted.fits:
                continue
            gain = f": {lower:.2f} nats lower" if lower > 0 else ""
        yield Alternative(words + gain, other, other_predicted)


def _mended(plan: Plan, machine: Machine) -> Recipe | None:
    """The recipe with decay, warm-up, rate and micro-batch by the rules, for as long; None where it can't fit."""
    recipe, predicted = plan.recipe, plan.predicted
    assert predicted.tokens is not None and predicted.steps is not None and predicted.hours is not None
    largest = _largest_micro_batch(recipe, machine)
    if not largest:
        return None
    passes = -(-recipe.windows_per_step // largest)
    rate = recommended_learning_rate(
        recipe.model_config_of_run(),
        recipe.optimizer.optimizer,
        tokens=predicted.tokens,
        tokens_per_step=largest * passes * recipe.model.block_size,
    )
    warmup = recommended_warmup_steps(recipe.optimizer.optimizer, predicted.steps)
    schedule = {"schedule": "linear"} if recipe.schedule.schedule == "constant" else {}
    return recipe.with_values(
        micro_batch=largest,
        grad_accum=passes,
        learning_rate=rounded(rate),
        warmup_steps=min(warmup, recipe.schedule.warmup_steps),
        decay_steps=None,
        min_lr=0.0,
        hours=predicted.hours.mid,
        **schedule,
    )
