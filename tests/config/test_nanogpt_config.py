"""nanoGPT's config files, read without running them."""

import os
import re
from pathlib import Path

import pytest

from nanofit.common.errors import UserError
from nanofit.config.architecture import count_parameters
from nanofit.config.nanogpt_config import read_nanogpt_config
from nanofit.config.recipe_files import load_recipe

NANOGPT = os.environ.get("NANOGPT")


def config(folder: Path, text: str) -> Path:
    file = folder / "config.py"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(folder: Path, text: str) -> str:
    """The line with which a config of `text` is refused."""
    with pytest.raises(UserError) as caught:
        load_recipe(config(folder, text))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What nanoGPT's own files use


def test_a_finetuning_config_with_every_construct_of_nanogpts_own(tmp_path: Path) -> None:
    loaded = load_recipe(
        config(
            tmp_path,
            """
"A docstring."
import time
from math import pi

out_dir = 'out-shakespeare'
eval_interval = 5
eval_iters = 40
wandb_log = False # feel free to turn on
wandb_run_name = 'ft-' + str(time.time())
dataset = 'shakespeare'
init_from = 'gpt2-xl'
always_save_checkpoint = False
batch_size = 1
gradient_accumulation_steps = 5 * 8
max_iters = 20
weight_decay = 1e-1
learning_rate = 3e-5
decay_lr = False
""",
        )
    )
    recipe = loaded.recipe
    assert recipe.run.out == "out-shakespeare"
    assert recipe.data.source == "shakespeare"
    assert (recipe.batch.micro_batch, recipe.batch.grad_accum) == (1, 40)
    assert recipe.budget.steps == 20
    assert recipe.optimizer.weight_decay == 0.1
    # A constant rate from the first step on: the rate of every step is the one in the file.
    assert {recipe.schedule_over(20).learning_rate(step) for step in range(20)} == {3e-5}
    # The shape is the one of the weights that it starts from, biases included.
    assert recipe.model.init_from == "gpt2-xl"
    assert (recipe.model.n_layer, recipe.model.n_head, recipe.model.n_embd) == (48, 25, 1600)
    assert recipe.model.bias
    assert [warning.split()[0] for warning in loaded.warnings] == [
        "wandb_run_name",
        "always_save_checkpoint",
    ]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("5 * 8", 40),
        ("2 ** 5", 32),
        ("(3 + 4) * 2 - 1", 13),
        ("100 // 7", 14),
        ("100 % 7", 2),
        ("1_000", 1000),
        ("64 / 2", 32),
        ("-(-9)", 9),
        ("0x10", 16),
        ("+5", 5),
        ("int(1e3)", 1000),
        ("int('12')", 12),
        ("int(9e9 // tokens_per_step)", 9),
    ],
)
def test_arithmetic_is_worked_out(tmp_path: Path, expression: str, value: int) -> None:
    text = f"tokens_per_step = 1_000_000_000\nmax_iters = {expression}\n"
    if "tokens_per_step" not in expression:
        text = text.partition("\n")[2]
    assert load_recipe(config(tmp_path, text)).recipe.budget.steps == value


def test_text_is_joined(tmp_path: Path) -> None:
    text = "size = 3\nn_layer = size\ndataset = 'fine' + 'web'\nout_dir = f'out-{n_layer}-' + str(learning_rate)\n"
    recipe = load_recipe(config(tmp_path, text)).recipe
    assert (recipe.data.source, recipe.run.out) == ("fineweb", "out-3-0.0006")


def test_several_names_and_changed_ones_are_assigned(tmp_path: Path) -> None:
    recipe = load_recipe(config(tmp_path, "n_layer = n_head = 4\nn_layer *= 2\nmax_iters -= 599_000\n")).recipe
    assert (recipe.model.n_layer, recipe.model.n_head, recipe.budget.steps) == (8, 4, 1000)


def test_a_name_that_is_no_setting_is_a_value_for_the_settings_after_it(tmp_path: Path) -> None:
    text = "import time\nnow = time.strftime('%H')\nwandb_run_name = 'at-' + now\nmax_step = 7\nmax_iters = max_step\n"
    loaded = load_recipe(config(tmp_path, text))
    assert loaded.recipe.budget.steps == 7
    assert [warning.split(" is ")[0] for warning in loaded.warnings] == ["wandb_run_name = 'at-' + now", "max_step"]
    assert "did you mean 'max_iters'?" in loaded.warnings[1]  # it may be a slip of the pen
    assert "max_iters = now is neither" in refusal(tmp_path, "now = clock()\nmax_iters = now\n")


@pytest.mark.parametrize(
    "line",
    ["dtype = 'bfloat16' if torch.cuda.is_available() else 'float16'", "device = get()", "compile = not slow"],
)
def test_what_nanofit_chooses_by_the_machine_may_be_unreadable(tmp_path: Path, line: str) -> None:
    loaded = load_recipe(config(tmp_path, f"print('hello', n_layer)\n{line}\n"))
    run = loaded.recipe.run
    assert (run.precision, run.device, run.compile) == ("auto", "auto", "auto")
    assert loaded.warnings[0].endswith("is not a plain value and was left out")


@pytest.mark.parametrize("line", ["x = x * x", "x = x + x", "x += x", "x = f'{x}{x}'", "x = str(x) + str(x)"])
@pytest.mark.parametrize("start", ["'a'", "10 ** 9"])
def test_lines_that_grow_without_end_are_refused_at_once(tmp_path: Path, line: str, start: str) -> None:
    text = f"x = {start}\n" + 2000 * f"{line}\n" + "n_layer = x\n"
    assert "n_layer = x is neither a literal nor arithmetic" in refusal(tmp_path, text)


def test_a_name_assigned_before_has_its_value(tmp_path: Path) -> None:
    recipe = load_recipe(config(tmp_path, "max_iters: int = 500\nlr_decay_iters = max_iters\nmax_iters = 600\n")).recipe
    assert (recipe.budget.steps, recipe.schedule.decay_steps) == (600, 500)


def test_a_name_of_nanogpts_own_settings_has_its_default(tmp_path: Path) -> None:
    # nanoGPT runs a config inside train.py, where every setting already has its default.
    recipe = load_recipe(config(tmp_path, "min_lr = learning_rate / 10\nlr_decay_iters = max_iters\n")).recipe
    assert recipe.schedule.min_lr == pytest.approx(6e-5)
    assert recipe.schedule.decay_steps == 600_000


def test_an_empty_config_is_nanogpts_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(config(tmp_path, "")).recipe
    model, run = recipe.model, recipe.run
    assert (model.n_layer, model.n_head, model.n_embd, model.block_size, recipe.vocab_size) == (
        12,
        12,
        768,
        1024,
        50304,
    )
    assert (model.bias, model.dropout, model.gelu) == (False, 0.0, "exact")
    assert recipe.tokens_per_step == 491_520  # as its comment says: 5 * 8 * 12 * 1024
    assert recipe.budget.steps == 600_000
    assert (recipe.schedule.schedule, recipe.schedule.warmup_steps) == ("cosine", 2000)
    assert (recipe.schedule.decay_steps, recipe.schedule.min_lr) == (600_000, 6e-5)
    optimizer = recipe.optimizer
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.grad_clip) == (6e-4, 0.1, 1.0)
    assert (optimizer.beta1, optimizer.beta2) == (0.9, 0.95)
    assert (run.eval_interval, run.log_interval, run.logging) == (2000, 1, "none")
    assert run.eval_tokens == 200 * 12 * 1024


def test_evaluation_tokens_follow_an_overridden_batch(tmp_path: Path) -> None:
    file = config(tmp_path, "eval_iters = 10\nbatch_size = 4\nblock_size = 64\n")
    assert load_recipe(file).recipe.run.eval_tokens == 10 * 4 * 64
    assert load_recipe(file, {"batch_size": 6}).recipe.run.eval_tokens == 10 * 6 * 64
    assert load_recipe(file, {"micro_batch": 6, "block_size": 32}).recipe.run.eval_tokens == 10 * 6 * 32
    assert load_recipe(file, {"eval_tokens": 999}).recipe.run.eval_tokens == 999


def test_checkpoints_come_with_evaluations_as_in_nanogpt(tmp_path: Path) -> None:
    assert load_recipe(config(tmp_path, "eval_interval = 250\n")).recipe.run.checkpoint_interval == 250
    assert load_recipe(config(tmp_path, "")).recipe.run.checkpoint_interval == 2000


def test_an_option_counts_as_if_it_stood_in_the_file(tmp_path: Path) -> None:
    file = config(tmp_path, "learning_rate = 3e-4\n")
    assert load_recipe(file, {"eval_interval": 250}).recipe.run.checkpoint_interval == 250
    assert load_recipe(file, {"init_from": "gpt2-medium"}).recipe.model.n_layer == 24
    constant = load_recipe(file, {"decay_lr": False}).recipe
    assert constant.schedule_over(10).learning_rate(0) == 3e-4
    assert load_recipe(config(tmp_path, "eval_only = True\n"), {"eval_only": False}).warnings == []


def test_always_save_checkpoint_asks_for_what_nanofit_does_anyway(tmp_path: Path) -> None:
    assert load_recipe(config(tmp_path, "always_save_checkpoint = True\nbackend = 'nccl'\n")).warnings == []


def test_resuming_without_a_run_is_refused(tmp_path: Path) -> None:
    text = f"init_from = 'resume'\nout_dir = {str(tmp_path / 'out')!r}\n"
    message = refusal(tmp_path, text)
    assert f"init_from = 'resume', and there is no run in {tmp_path / 'out'}: --init_from=scratch begins" in message


def test_resuming_nanogpts_own_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ckpt.pt").write_bytes(b"weights")
    text = f"init_from = 'resume'\nout_dir = {str(tmp_path)!r}\n"
    assert f"{tmp_path / 'ckpt.pt'} is a checkpoint of nanoGPT" in refusal(tmp_path, text)
    (tmp_path / "metrics.jsonl").touch()  # a run of nanofit's
    assert load_recipe(config(tmp_path, text)).recipe.model.init_from == "scratch"


def test_an_evaluation_alone_is_refused(tmp_path: Path) -> None:
    assert "eval_only = True asks for an evaluation and no training: nanofit eval RUN" in refusal(
        tmp_path, "eval_only = True\n"
    )
    assert "no training: nanofit eval mine evaluates" in refusal(tmp_path, "eval_only = True\nout_dir = 'mine'\n")
    assert "; init_from = 'gpt2': training from OpenAI's weights" in refusal(
        tmp_path, "eval_only = True\ninit_from = 'gpt2'\n"
    )


# Datasets that nanoGPT's prepare.py made


def prepared(root: Path, name: str) -> Path:
    folder = root / "data" / name
    folder.mkdir(parents=True)
    (folder / "train.bin").write_bytes(b"..")
    return folder


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of nanoGPT with a config; the current folder is another one."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "nanoGPT" / "config").mkdir(parents=True)
    config(tmp_path / "nanoGPT" / "config", "dataset = 'shakespeare'\n")
    return tmp_path / "nanoGPT"


def test_a_dataset_in_the_current_folder_comes_first(checkout: Path) -> None:
    file = checkout / "config" / "config.py"
    assert load_recipe(file).recipe.data.source == "shakespeare"
    beside = prepared(checkout, "shakespeare")
    assert load_recipe(file).recipe.data.source == str(beside)
    prepared(Path(), "shakespeare")
    assert load_recipe(file).recipe.data.source == str(Path("data") / "shakespeare")


def test_a_config_outside_a_checkout_has_the_current_folder_alone(checkout: Path) -> None:
    prepared(checkout, "shakespeare")
    assert load_recipe(config(checkout, "dataset = 'shakespeare'\n")).recipe.data.source == "shakespeare"
    prepared(Path(), "openwebtext")
    assert load_recipe(config(checkout, "")).recipe.data.source == str(Path("data") / "openwebtext")


def test_a_dataset_on_the_command_line_is_looked_for_too(checkout: Path) -> None:
    beside = prepared(checkout, "fineweb")
    file = checkout / "config" / "config.py"
    assert load_recipe(file, {"dataset": "fineweb"}).recipe.data.source == str(beside)
    # nanofit's own word means what nanofit means by it.
    assert load_recipe(file, {"source": "fineweb"}).recipe.data.source == "fineweb"


# What is refused


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("max_iters = int('x')", "max_iters = int('x')"),
        ("max_iters = int(1e5, 10)", "max_iters = int(100000.0, 10)"),
        ("n_layer = os.cpu_count", "n_layer = os.cpu_count"),
        ("dataset = 'fine' * 2", "dataset = 'fine' * 2"),
        ("batch_size = [1, 2][0]", "batch_size = [1, 2][0]"),
        ("learning_rate = 1e-3 if True else 0", "learning_rate = 0.001 if True else 0"),
        ("n_layer = undefined", "n_layer = undefined"),
        ("n_layer = 1 / 0", "n_layer = 1 / 0"),
        ("n_layer = 0 ** -1", "n_layer = 0 ** (-1)"),
        ("n_layer = 1e6 ** 64", "n_layer = 1000000.0 ** 64"),
        ("n_layer = 9 ** 9 ** 9", "n_layer = 9 ** 9 ** 9"),
        ("dataset = f'{3:10}'", "dataset = f'{3:10}'"),
        ("dataset = f'{3!r}'", "dataset = f'{3!r}'"),
    ],
)
def test_a_training_setting_that_is_no_plain_value_is_refused_with_its_line(
    tmp_path: Path, line: str, shown: str
) -> None:
    message = refusal(tmp_path, f"import os\n\n{line}\n")
    assert f"config.py, line 3: {shown} is neither a literal nor arithmetic" in message
    assert message.endswith(f"write the value of {line.split()[0]}")


@pytest.mark.parametrize(
    "statement",
    [
        "if True:\n    n_layer = 3",
        "for n_layer in range(3):\n    pass",
        "def f():\n    return 1",
        "class Config:\n    n_layer = 1",
        "sys.stdout.write('hello')",
        "model.n_layer = 3",
        "model.n_layer = n_layer = 3",
        "model.n_layer += 3",
        "from base import *",
        "from base import n_layer",
        "from base import layers as n_layer",
        "n_layer, n_head = 3, 4",
        "del n_layer",
        "exec('n_layer = 3')",
    ],
)
def test_code_is_refused_with_its_line(tmp_path: Path, statement: str) -> None:
    message = refusal(tmp_path, f"n_embd = 8\n{statement}\n")
    assert "config.py, line 2: " in message
    assert "is code, not a setting" in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max_iters = 10 / 3", "max_iters = 3.3333333333333335 is not valid: give a whole number"),
        ("dtype = 'fp8'", "unknown dtype 'fp8'"),
        ("batch_size = 'abc'", "batch_size is a whole number, 1 or more, not 'abc'"),
        ("eval_iters = 2.5", "eval_iters is a whole number, 1 or more, not 2.5"),
        ("eval_only = 'no'", "eval_only is True or False, not 'no'"),
        ("always_save_checkpoint = 3", "always_save_checkpoint is True or False, not 3"),
    ],
)
def test_a_wrong_value_is_said_under_the_name_that_was_used(tmp_path: Path, line: str, said: str) -> None:
    assert f"config.py: {said}" in refusal(tmp_path, line + "\n")


def test_an_unknown_setting_names_the_nearest(tmp_path: Path) -> None:
    assert "unknown setting 'batchsize' (did you mean 'batch_size'?)" in refusal(tmp_path, "batchsize = 3\n")


def test_what_is_not_python_is_said(tmp_path: Path) -> None:
    assert "is not a Python file" in refusal(tmp_path, "n_layer = = 3\n")


def test_a_config_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for line in (
        f"wandb_run_name = open({str(marker)!r}, 'w').name",
        f"n_layer = open({str(marker)!r}, 'w').fileno()",
        f"open({str(marker)!r}, 'w')",
        f"n_layer: open({str(marker)!r}, 'w') = 3",
        f"import {marker.name}_module",
    ):
        (tmp_path / f"{marker.name}_module.py").write_text(f"open({str(marker)!r}, 'w')")
        try:
            read_nanogpt_config(config(tmp_path, line))
        except UserError as error:
            assert "line 1" in str(error)
        assert not marker.exists(), line


# Configs that people have


def test_the_guides_24_gb_config_as_it_really_is(repository: Path) -> None:
    loaded = load_recipe(repository / "configs" / "guide_24gb.py")
    recipe = loaded.recipe
    assert loaded.warnings == []
    assert round(count_parameters(recipe.model_config_of_run()).total / 1e6, 1) == 82.0
    assert recipe.steps is not None
    assert round(recipe.steps * recipe.tokens_per_step / 1e9, 1) == 26.2
    assert (recipe.schedule.decay_steps, recipe.optimizer.beta2, recipe.run.logging) == (50_000, 0.99, "wandb")
    assert recipe.run.out == "out-fineweb-160M"


def test_the_guides_200m_config_as_it_really_is(repository: Path) -> None:
    recipe = load_recipe(repository / "configs" / "guide_200m.py").recipe
    assert round(count_parameters(recipe.model_config_of_run()).total / 1e6, 1) == 124.4
    assert recipe.steps is not None
    assert round(recipe.steps * recipe.tokens_per_step / 1e9, 1) == 31.5
    # It leaves lr_decay_iters out, so that the rate hardly decays.
    assert recipe.schedule.decay_steps == 600_000
    assert (
        recipe.schedule_over(recipe.steps).learning_rate(recipe.steps) > 0.97 * recipe.optimizer_settings.learning_rate
    )


@pytest.mark.skipif(NANOGPT is None, reason="NANOGPT does not name a checkout of nanoGPT")
def test_all_of_nanogpts_own_configs_load() -> None:
    assert NANOGPT is not None
    files = sorted((Path(NANOGPT) / "config").glob("*.py"))
    assert files
    for file in files:
        recipe = load_recipe(file, {"eval_only": False}).recipe
        # Each says its model's size in a comment: "# 124M parameters".
        said = re.search(r"# (\d+)M parameters", file.read_text())
        if said:
            assert count_parameters(recipe.model_config_of_run()).total / 1e6 == pytest.approx(int(said[1]), rel=0.02)
