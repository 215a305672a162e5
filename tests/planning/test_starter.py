"""The first recipe for a machine: offline, small, and open to every override."""

from pathlib import Path

import pytest

from nanofit.common.errors import UserError
from nanofit.config.architecture import count_parameters
from nanofit.data.shards.manifest import read_manifest
from nanofit.planning.plan import plan_recipe
from nanofit.planning.starter import likely_device_kind, starter_recipe
from small_sets import write_set


@pytest.mark.parametrize("kind", ["cpu", "mps", "cuda"])
def test_it_needs_no_network_and_its_schedule_fits(kind: str) -> None:
    starter = starter_recipe(kind)
    assert (starter.recipe.data.source, starter.recipe.data.tokenizer) == ("python", "bytes")
    assert starter.recipe.vocab_size == 320
    assert plan_recipe(starter.recipe).warnings == ()
    assert all(reason and "\n" not in reason for reason in starter.because)


def test_a_cpu_gets_a_few_million_parameters_at_most_and_a_gpu_more() -> None:
    sizes = {
        kind: count_parameters(starter_recipe(kind).recipe.model_config_of_run()).total for kind in ("cpu", "cuda")
    }
    assert 5e5 < sizes["cpu"] < 5e6
    assert 2 * sizes["cpu"] < sizes["cuda"] < 20e6


def test_overrides_lie_over_it_by_any_name() -> None:
    recipe = starter_recipe("cpu", {"batch_size": 3, "hours": 0.5, "n_layer": 2}).recipe
    assert recipe.batch.micro_batch == 3
    assert recipe.model.n_layer == 2
    assert (recipe.budget.hours, recipe.budget.steps) == (0.5, None)


def test_overrides_are_checked_like_any_recipe() -> None:
    with pytest.raises(UserError, match=r"n_embd 250 .* n_head 4"):
        starter_recipe("cpu", {"n_embd": 250})
    with pytest.raises(UserError, match="did you mean 'n_layer'"):
        starter_recipe("cpu", {"n_layers": 2})


def test_a_machine_without_an_nvidia_driver_has_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert likely_device_kind() in ("cpu", "mps")


def test_the_tokenizer_is_that_of_the_source(tmp_path: Path) -> None:
    write_set(tmp_path, [[1, 2, 3]])
    assert starter_recipe("cpu", {"source": str(tmp_path)}).recipe.data.tokenizer == read_manifest(tmp_path).tokenizer
    assert starter_recipe("cpu", {"dataset": "fineweb"}).recipe.data.tokenizer == "gpt2"
    assert starter_recipe("cpu", {"source": "fineweb", "tokenizer": "bytes"}).recipe.data.tokenizer == "bytes"
    assert starter_recipe("cpu", {"source": "texts.jsonl"}).recipe.data.tokenizer == "bytes"
