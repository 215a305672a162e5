"""The reasons of a plan."""

from typing import Any

from nanofit.hardware.gpu_names import find
from nanofit.planning.choose import goal_of, plan_for
from nanofit.planning.machine import Machine
from nanofit.planning.plan import Plan


def planned(name: str, hours: float = 24, **pinned: Any) -> Plan:
    return plan_for(goal_of(Machine(find(name)), {"hours": hours} | pinned))


def test_reasons_are_given_for_what_was_chosen_only() -> None:
    pinned = {"n_layer": 12, "n_embd": 768, "n_head": 6, "micro_batch": 8, "grad_accum": 10, "learning_rate": 0.01}
    reasons = planned("RTX 4090", 2, block_size=512, min_lr=1e-4, **pinned).because
    assert not any(line.startswith(("heads", "batch", "micro", "learning", "decay", "context")) for line in reasons)
    assert "the shape is as given" in reasons[0]


def test_a_size_without_a_predicted_loss_has_not_the_lowest_expected_one() -> None:
    plan = plan_for(
        goal_of(Machine(find("RTX 4090")), {"source": "python", "tokenizer": "bytes", "n_layer": 4, "hours": 1})
    )
    assert plan.predicted.val_loss is None
    size = next(line for line in plan.because if line.startswith("size: "))
    assert "lowest expected loss" not in size
