"""Named pipes, sockets and devices where a file is expected: one line, and no command waits for a writer."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from nanofit_command import Nanofit

from nanofit.common.durable import require_regular
from nanofit.config.recipe import build_recipe
from nanofit.config.recipe_writing import recipe_toml

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")

IS_PIPE = "it is a named pipe; give a regular file"


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet", "a.jsonl.gz", "train.bin"])
@pytest.mark.parametrize("command", [("plan", "--source"), ("data", "prepare"), ("train", "--steps=3", "--source")])
def test_a_pipe_as_the_source(nanofit: Nanofit, tmp_path: Path, command: tuple[str, ...], name: str) -> None:
    os.mkfifo(tmp_path / name)
    ran = nanofit(*command, name)
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert IS_PIPE in ran.err
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "meta.pkl"])
@pytest.mark.parametrize("command", [("plan", "--source"), ("data", "verify"), ("train", "--steps=3", "--source")])
def test_a_pipe_in_a_set_of_nanogpt(nanofit: Nanofit, tmp_path: Path, command: tuple[str, ...], name: str) -> None:
    (tmp_path / "set").mkdir()
    for each in ("train.bin", "val.bin"):
        np.zeros(5000, dtype="<u2").tofile(tmp_path / "set" / each)
    (tmp_path / "set" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "set" / name)
    ran = nanofit(*command, "set")
    assert ran.code == 2
    assert IS_PIPE in ran.err


@pytest.mark.parametrize("shard", [False, True])
def test_a_pipe_in_a_set_of_nanofit(nanofit: Nanofit, tmp_path: Path, shard: bool) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(f"{n} {'text ' * 200}" for n in range(400)))
    assert nanofit("data", "prepare", "a.txt", "--tokenizer", "bytes", "--out", "set").code == 0
    (tmp_path / "a.txt").unlink()
    file = next((tmp_path / "set").glob("*_train_*.bin")) if shard else tmp_path / "set" / "manifest.jsonl"
    file.unlink()
    os.mkfifo(file)
    for command in (("data", "verify", "set"), ("train", "--steps=3", "--source", "set")):
        ran = nanofit(*command)
        assert ran.code in (1, 2), (command, ran)  # 1: verify found what it could not repair
        assert IS_PIPE in ran.out + ran.err


@pytest.mark.parametrize("name", ["run.toml", "config.py"])
@pytest.mark.parametrize("command", ["plan", "train", "probe"])
def test_a_pipe_as_the_recipe(nanofit: Nanofit, tmp_path: Path, command: str, name: str) -> None:
    os.mkfifo(tmp_path / name)
    ran = nanofit(command, name)
    assert (ran.code, ran.err) == (2, f"nanofit: {name}: {IS_PIPE}\n")


def test_a_plan_is_not_saved_into_a_pipe(nanofit: Nanofit, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.toml")
    ran = nanofit("plan", "--steps=3", "--save", "run.toml")
    assert ran.code == 2
    assert IS_PIPE in ran.err


def test_pipes_in_a_run_folder(nanofit: Nanofit, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.json").write_text("{}")
    for name in ("recipe.toml", "metrics.jsonl"):
        os.mkfifo(tmp_path / "run" / name)
    ran = nanofit("train", "run")
    assert ran.code == 2
    assert "recipe.toml can't be read (it is a named pipe" in ran.err
    (tmp_path / "run" / "recipe.toml").unlink()
    (tmp_path / "run" / "recipe.toml").write_text(recipe_toml(build_recipe({"steps": 5, "source": "python"})))
    ran = nanofit("train", "run")
    assert (ran.code, ran.err.splitlines()[-1]) == (2, f"nanofit: run/metrics.jsonl: {IS_PIPE}")


@pytest.fixture
def bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A socket in the file system."""
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind("s")
        yield Path("s")


def test_what_else_is_no_regular_file(bound: Path, tmp_path: Path) -> None:
    for file, error in ((bound, "it is a socket"), (Path("/dev/null"), "it is a device"), (tmp_path, "Is a directory")):
        with pytest.raises(OSError, match=error):
            require_regular(file)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert require_regular(tmp_path / "link") == tmp_path / "link"
