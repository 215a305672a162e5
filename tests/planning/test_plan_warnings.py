"""What a plan warns of."""

from typing import Any

from nanofit.hardware.gpu_names import find
from nanofit.planning.choose import goal_of, plan_for
from nanofit.planning.loss.law import law_parameters
from nanofit.planning.machine import Machine
from nanofit.planning.plan import Plan


def planned(name: str, hours: float = 24, **pinned: Any) -> Plan:
    return plan_for(goal_of(Machine(find(name)), {"hours": hours} | pinned))


def warned(plan: Plan) -> str:
    return " ".join(plan.warnings)


def test_a_pinned_shape_is_planned_with_fewer_tokens_than_it_wants() -> None:
    shape = {"arch": "nanochat", "n_layer": 12, "n_head": 6, "n_embd": 768}
    plan = plan_for(goal_of(Machine(find("RTX 4090")), {"tokens": "983M"} | shape))
    model, predicted = plan.recipe.model, plan.predicted
    assert (model.arch, model.n_layer, model.n_head, model.n_embd) == ("nanochat", 12, 6, 768)
    assert predicted.tokens is not None and predicted.tokens >= 983_000_000
    assert "are few" not in warned(plan)  # 7.96 a parameter are as good as 8
    few = planned("RTX 4090", 0.5, **(shape | {"n_layer": 36}))
    assert "tokens per parameter are few" in warned(few)
    (freed,) = [other for other in few.alternatives if other.why == "the best shape for this budget"]
    assert freed.predicted.val_loss is not None and few.predicted.val_loss is not None
    assert freed.predicted.val_loss.mid < few.predicted.val_loss.mid


def test_few_steps_are_said() -> None:
    plan = planned("RTX 4090", 1, micro_batch=64, grad_accum=640)
    assert plan.predicted.steps is not None and plan.predicted.steps < 200
    assert f"a run of {plan.predicted.steps:,} steps is short" in warned(plan)
    params = law_parameters(plan.recipe.model_config_of_run())
    assert plan.predicted.tokens is not None and plan.predicted.tokens / params > 8


def test_a_pinned_model_that_may_fit_is_planned_with_a_warning() -> None:
    plan = planned("RTX 4090", 2, arch="gpt2", n_layer=48, n_embd=1600)
    assert plan.predicted.fits is False
    assert "not guaranteed to fit" in warned(plan)
