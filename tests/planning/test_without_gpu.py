"""What is said where a run trains on a CPU because there is no GPU."""

import re
from typing import Any

from nanofit.config.recipe import build_recipe
from nanofit.planning.machine import this_cpu
from nanofit.planning.plan import Plan, plan_recipe
from nanofit.planning.without_gpu import cpu_note

FOR_A_CARD: dict[str, Any] = {"n_layer": 12, "n_embd": 768, "micro_batch": 16, "grad_accum": 32}


def on_this_cpu(values: dict[str, Any]) -> Plan:
    return plan_recipe(build_recipe(values), machine=this_cpu())


def test_it_says_what_a_budget_takes_or_gives() -> None:
    said = cpu_note(on_this_cpu(FOR_A_CARD | {"tokens": "3B"}), step=0)
    assert re.fullmatch(
        r"no GPU was found, so this trains on the CPU, at about [\d,.]+ tokens/s \(estimated\): 5,723 steps in about \d+d\d+h",
        said,
    )
    assert re.search(
        r": about [\d,]+ steps, [\d.]+M tokens, in 24 hours$",
        cpu_note(on_this_cpu(FOR_A_CARD | {"hours": 24}), step=0),
    )


def test_only_what_is_left_counts() -> None:
    assert "(estimated): 1 step in about" in cpu_note(on_this_cpu({"steps": 1000}), step=999)
