"""nanoGPT's config files and prepared data, planned, trained, evaluated and sampled as its user would.

The files here say what nanoGPT's seven in `config/` say, in fewer words; with NANOGPT in the environment, those of that
checkout are tried too. Sizes are made small on the command line.
"""

import json
import math
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nanofit_command import Nanofit

from nanofit.config.recipe_files import load_recipe

NANOGPT = os.environ.get("NANOGPT")

EVALUATIONS = {
    f"eval_{name.replace('-', '_')}.py": f"batch_size = 8\neval_iters = 500\neval_only = True\ninit_from = '{name}'\n"
    for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
}
CONFIGS = EVALUATIONS | {
    "finetune_shakespeare.py": "import time\ndataset = 'shakespeare'\ninit_from = 'gpt2-xl'\nmax_iters = 20\n"
    "always_save_checkpoint = False\nwandb_run_name = 'ft-' + str(time.time())\nlearning_rate = 3e-5\ndecay_lr = False\n",
    "train_gpt2.py": "wandb_log = True\ngradient_accumulation_steps = 5 * 8\nmax_iters = 600000\nlr_decay_iters = 600000\n",
    "train_shakespeare_char.py": "dataset = 'shakespeare_char'\ndropout = 0.2\nlearning_rate = 1e-3\nmax_iters = 5000\n"
    "lr_decay_iters = 5000\nmin_lr = 1e-4\nbeta2 = 0.99\nwarmup_iters = 100\n",
}

SMALL = (
    "--n_layer=1",
    "--n_head=1",
    "--n_embd=16",
    "--block_size=16",
    "--batch_size=2",
    "--gradient_accumulation_steps=2",
    "--max_iters=4",
    "--eval_iters=4",
    "--log_interval=1",
    "--device=cpu",
    "--compile=False",
    "--wandb_log=False",
)

TEXT = "All the world's a stage,\nAnd all the men and women merely players;\nThey have their exits – and their entrances.\n"


@pytest.fixture(params=["ours", pytest.param("theirs", marks=pytest.mark.skipif(NANOGPT is None, reason="no NANOGPT"))])
def checkout(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder as nanoGPT's, which commands run in: its configs, and its three datasets as its prepare.py would make them."""
    if request.param == "theirs":
        assert NANOGPT is not None
        shutil.copytree(Path(NANOGPT) / "config", tmp_path / "config")
    else:
        (tmp_path / "config").mkdir()
        for name, text in CONFIGS.items():
            (tmp_path / "config" / name).write_text(text)
    rng = np.random.default_rng(0)
    for name in ("shakespeare", "openwebtext"):
        write_tokens(tmp_path / "data" / name, rng.integers(0, 50257, 800), rng.integers(0, 50257, 200))
    characters = sorted(set(TEXT))
    stoi = {character: token for token, character in enumerate(characters)}
    ids = np.array([stoi[character] for character in TEXT])
    folder = write_tokens(tmp_path / "data" / "shakespeare_char", np.tile(ids, 40), np.tile(ids, 12))
    meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": stoi}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    yield tmp_path


def write_tokens(folder: Path, train: np.ndarray, val: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    train.astype(np.uint16).tofile(folder / "train.bin")
    val.astype(np.uint16).tofile(folder / "val.bin")
    return folder


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_config_of_nanogpts_is_planned_and_started_or_refused_by_both(
    nanofit: Nanofit, checkout: Path, name: str
) -> None:
    planned = nanofit("plan", f"config/{name}", *SMALL)
    trained = nanofit("train", f"config/{name}", *SMALL, "--out=run")
    if "init_from" not in (checkout / "config" / name).read_text():
        assert (planned.code, trained.code) == (0, 0), planned.err + trained.err
        assert metrics(checkout / "run")[-1]["event"] == "finished"
        return
    # Those that need OpenAI's weights are refused by both, in the same words, and nothing is left behind.
    assert (planned.code, trained.code) == (2, 2)
    assert planned.err.splitlines()[-1] == trained.err.splitlines()[-1]
    assert "training from OpenAI's weights is not there yet" in planned.err
    assert ("eval_only = True asks for an evaluation" in planned.err) == name.startswith("eval_")
    assert not (checkout / "run" / "recipe.toml").exists()


def test_a_constant_rate_is_the_rate_of_every_step(nanofit: Nanofit, checkout: Path) -> None:
    ran = nanofit("train", "config/finetune_shakespeare.py", "--init_from=scratch", *SMALL, "--out=run")
    assert ran.code == 0, ran.err
    rates = [line["learning_rate"] for line in metrics(checkout / "run") if "learning_rate" in line]
    assert set(rates) == {3e-5}


def test_character_level_data_is_planned_trained_evaluated_and_sampled(nanofit: Nanofit, checkout: Path) -> None:
    file = "config/train_shakespeare_char.py"
    planned = nanofit("plan", file, *SMALL, "--json")
    assert planned.code == 0, planned.err
    recipe = json.loads(planned.out)["recipe"]
    assert recipe["data"]["tokenizer"] == "characters"
    assert nanofit("train", file, *SMALL, "--out=run").code == 0

    # The run's own recipe has the vocabulary in it, and a model as large as it is.
    stored = load_recipe(checkout / "run" / "recipe.toml").recipe
    assert stored.data.characters == recipe["data"]["characters"] == "".join(sorted(set(TEXT)))
    assert (stored.vocab_size, stored.model_config_of_run().unpadded_vocab_size) == (64, len(set(TEXT)))
    assert json.loads((checkout / "run" / "plan.json").read_text())

    evaluated = nanofit("eval", "run", "--json")
    assert evaluated.code == 0, evaluated.err
    figures = json.loads(evaluated.out)
    bytes_per_token = len(TEXT.encode()) / len(TEXT)
    assert figures["bits_per_byte"] == pytest.approx(figures["val_loss"] / math.log(2) / bytes_per_token)
    assert 0 < figures["val_loss"] < 5

    sampled = nanofit("sample", "run", "All the", "--tokens=20", "--seed=1")
    assert sampled.code == 0, sampled.err
    text = sampled.out.removesuffix("\n")
    assert text.startswith("All the")
    assert len(text) == len("All the") + 20
    assert set(text) <= set(TEXT)
    unknown = nanofit("sample", "run", "日本")
    assert unknown.code == 2
    assert "'日', '本'" in unknown.err
    assert unknown.err.count("\n") == 1

    # The same command goes on; with another vocabulary beside the tokens it does not.
    assert nanofit("train", file, *SMALL, "--max_iters=6", "--out=run").code == 0
    meta = checkout / "data" / "shakespeare_char" / "meta.pkl"
    size = len(set(TEXT))
    meta.write_bytes(pickle.dumps({"vocab_size": size, "itos": {token: chr(token + 300) for token in range(size)}}))
    for words in (("train", file, *SMALL, "--max_iters=8", "--out=run"), ("eval", "run")):
        refused = nanofit(*words)
        assert refused.code == 2
        assert "characters" in refused.err or "vocabulary" in refused.err
    assert nanofit("sample", "run", "All", "--tokens=2").code == 0  # which needs no data


def test_character_level_data_without_a_config_has_its_vocabulary(nanofit: Nanofit, checkout: Path) -> None:
    size = ("--n_layer=1", "--n_head=1", "--n_embd=16", "--block_size=16", "--steps=2", "--device=cpu")
    for options in (("--source", "data/shakespeare_char"), ("--dataset", "shakespeare_char")):
        planned = nanofit("plan", *options, *size, "--json")
        assert planned.code == 0, planned.err
        assert json.loads(planned.out)["recipe"]["data"]["tokenizer"] == "characters"
        trained = nanofit("train", *options, *size, "--out=plain", "--fresh")
        assert trained.code == 0, trained.err
    assert nanofit("data", "prepare", "data/shakespeare_char").code == 0
    assert nanofit("data", "verify", "data/shakespeare_char").code == 0
    on_a_card = nanofit("plan", "--gpu=RTX 4090", "--hours=1", "--source=data/shakespeare_char", "--json")
    assert on_a_card.code == 0, on_a_card.err
    assert json.loads(on_a_card.out)["recipe"]["data"]["tokenizer"] == "characters"
    # GPT-2's tokens bring GPT-2's vocabulary, though a first recipe would be of bytes.
    planned = nanofit("plan", "--source=data/shakespeare", *size, "--json")
    assert json.loads(planned.out)["recipe"]["data"]["tokenizer"] == "gpt2"


def test_the_folder_of_a_download_script_is_found(nanofit: Nanofit, checkout: Path) -> None:
    folder = checkout / "data" / "fineweb100B"
    folder.mkdir()
    header = np.zeros(256, dtype=np.int32)
    for split in ("val_000000", "train_000001"):
        header[:3] = 20240520, 1, 400
        tokens = np.arange(400, dtype=np.uint16)
        (folder / f"fineweb_{split}.bin").write_bytes(header.tobytes() + tokens.tobytes())
    (checkout / "mine.py").write_text("dataset = 'fineweb100B'\n")
    assert json.loads(nanofit("plan", "mine.py", "--json").out)["recipe"]["data"]["source"] == "data/fineweb100B"
    trained = nanofit("train", "mine.py", *SMALL, "--out=run")
    assert trained.code == 0, trained.err
