"""The expected loss over a run's length."""

import pytest

from nanofit.gpus import find
from nanofit.planning.curve import loss_by_share
from nanofit.planning.machine import Machine
from nanofit.planning.plan import plan_recipe
from nanofit.recipe import build_recipe

FIELDS = {"steps": 5000, "source": "fineweb", "micro_batch": 16, "grad_accum": 16}


def test_it_falls_and_ends_at_the_plans_loss() -> None:
    plan = plan_recipe(build_recipe(FIELDS), machine=Machine(find("RTX 4090")))
    losses = loss_by_share(plan, [0.1, 0.3, 0.6, 1.0])
    assert [loss.mid for loss in losses] == sorted((loss.mid for loss in losses), reverse=True)
    assert plan.predicted.val_loss is not None
    # The plan's rates are for its whole length, the curve's by the rule for each.
    assert losses[-1].mid == pytest.approx(plan.predicted.val_loss.mid, abs=0.02)


def test_other_data_has_none() -> None:
    plan = plan_recipe(build_recipe(FIELDS | {"source": "my.txt"}), machine=Machine(find("RTX 4090")))
    assert loss_by_share(plan, [1.0]) == []
