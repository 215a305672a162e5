"""What is shown beside a plan."""

from typing import Any

from nanofit.hardware.gpu_names import find
from nanofit.planning.choose import goal_of, plan_for
from nanofit.planning.machine import Machine
from nanofit.planning.plan import Plan


def planned(name: str, hours: float = 24, **pinned: Any) -> Plan:
    return plan_for(goal_of(Machine(find(name)), {"hours": hours} | pinned))


def test_the_guides_tier_has_the_plans_data() -> None:
    plan = planned("RTX 4090", 2, source="python")
    assert plan.predicted.val_loss is None
    assert all(other.predicted.val_loss is None for other in plan.alternatives)


def test_alternatives_say_why_and_are_no_better_than_the_plan_in_the_same_hours() -> None:
    plan = planned("RTX 4090")
    reasons = [alternative.why for alternative in plan.alternatives]
    assert any("half the hours" in why for why in reasons)
    assert any("twice the hours" in why for why in reasons)
    assert any("guide" in why for why in reasons)
    assert plan.predicted.val_loss is not None
    for alternative in plan.alternatives:
        if "twice" not in alternative.why:
            assert alternative.predicted.val_loss is not None
            assert alternative.predicted.val_loss.mid > plan.predicted.val_loss.mid
    assert all("\n" not in reason for reason in plan.because)
