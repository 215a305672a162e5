"""The command line as a whole: exit codes, one line for a mistake, help with examples, and a start without torch."""

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from nanofit_command import Nanofit, Ran

from nanofit.cli.app import app
from nanofit.cli.progress import Watcher
from nanofit.common.events import Report


def commands() -> list[tuple[str, ...]]:
    """The words of every command, `("data", "prepare")`."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        children = getattr(command, "commands", None)
        if children is None:
            yield words
        else:
            for name, child in children.items():
                yield from walk(child, (*words, name))

    return list(walk(typer.main.get_command(app), ()))


def python(code: str, *arguments: str, cwd: Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, **options
    )


# Help


def test_the_commands_of_the_contract_are_there() -> None:
    assert {("plan",), ("data", "prepare"), ("data", "status"), ("train",), ("eval",), ("sample",)} <= set(commands())
    assert {("gpus",), ("runs",), ("doctor",), ("quickstart",)} <= set(commands())


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(nanofit: Nanofit, words: tuple[str, ...]) -> None:
    ran = nanofit(*words, "--help")
    assert ran.code == 0
    assert f"Example: nanofit {' '.join(words)}" in ran.out
    assert ran.err == ""


@pytest.mark.parametrize("words", [(), ("data",)])
def test_help_lists_the_commands(nanofit: Nanofit, words: tuple[str, ...]) -> None:
    ran = nanofit(*words, "--help")
    assert ran.code == 0
    for command in commands():
        if command[: len(words)] == words:
            assert command[len(words)] in ran.out


@pytest.mark.parametrize("words", [(), ("data",)], ids=" ".join)
def test_a_group_without_a_command_prints_its_help(nanofit: Nanofit, words: tuple[str, ...]) -> None:
    ran = nanofit(*words)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == nanofit(*words, "--help").out


def test_the_list_of_commands_is_readable_at_80_columns(nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in ((), ("data",)):
        ran = nanofit(*words)
        assert "..." not in ran.out.replace("[ARGS]...", "")
        assert max(map(len, ran.out.splitlines())) <= 80


def test_the_version(nanofit: Nanofit) -> None:
    import nanofit as package

    ran = nanofit("--version")
    assert (ran.code, ran.out) == (0, f"nanofit {package.__version__}\n")


# A start without torch


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("train", "--help"),
        ("plan", "--json"),
        ("plan", "config.py", "--json"),
        ("plan", "--save", "run.toml", "--json"),
        ("plan",),
        ("gpus",),
        ("gpus", "--json"),
        ("runs", ".", "--json"),
        ("plan", "--n_layers", "3"),
        ("eval", "nothing", "--tasks", "nothing"),
    ],
    ids=" ".join,
)
def test_answering_does_not_import_torch(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "config.py").write_text("n_layer = 6\n", encoding="utf-8")
    ran = python(
        "import sys; from nanofit.cli.app import _run; _run(); print(sorted(sys.modules), file=sys.stderr)",
        *arguments,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    modules = ran.stderr.splitlines()[-1]
    assert "'nanofit.cli.app'" in modules
    for heavy in ("torch", "numpy", "transformers", "pyarrow", "matplotlib"):
        assert f"'{heavy}'" not in modules
    if "--json" in arguments:
        assert "'rich'" not in modules
    if "--save" not in arguments:
        assert "'tomlkit'" not in modules


def test_plugins_of_pydantic_are_not_looked_for(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    metadata = plugin / "some_plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[pydantic]\nsome = some_plugin:plugin\n", encoding="utf-8")
    (plugin / "some_plugin.py").write_text("raise SystemExit('the plugin was loaded')\n", encoding="utf-8")
    ran = python(
        f"import sys; sys.path.append({str(plugin)!r}); from nanofit.cli import main; main()",
        *("plan", "--json"),
        cwd=tmp_path,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["recipe"]


def test_a_long_job_has_its_garbage_collected() -> None:
    gc.disable()
    try:
        with Watcher():
            assert gc.isenabled()
    finally:
        gc.enable()


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plan", "missing.toml"), "missing.toml does not exist"),
        (("train", "--gpu", "RTX 4090"), "only nanofit plan takes it: nanofit plan --gpu"),
        (("plan", "--n_layers", "3"), "unknown option --n_layers (did you mean 'n_layer'?)"),
        (("plan", "--n_layer"), "--n_layer needs a value: --n_layer=VALUE"),
        (("plan", "--n_layer", "--json"), "--n_layer needs a value: --n_layer=VALUE"),
        (("plan", "--n_embd=770", "--n_head=12"), "n_embd 770 is not divisible by n_head 12"),
        (("plan", "--tokenizer=gpt4"), "unknown tokenizer 'gpt4' (did you mean 'gpt2'?): one of gpt2, bytes"),
        (("plan", "--arch", "gpt3"), "unknown arch 'gpt3' (did you mean 'gpt2'?): one of gpt2"),
        (("plan", "--steps=5", "--hours=2"), "steps = 5 and hours = 2"),
        (("plan", "--vocab_size=100"), "vocab_size 100 is smaller than the 257 ids of tokenizer bytes"),
        (("plan", "--tokens=1e400"), "tokens"),
        (("plan", "--save", "run.yaml"), "give a name that ends in .toml"),
        (("plan", "one.toml", "two.toml"), "two.toml"),
        (("runs", "missing"), "no folder missing"),
        (("train", "--until", "07:00", "--hours", "2"), "--until and --hours are both budgets: give one of them"),
        (("train", "--until", "07:00", "--max_iters=2"), "--until and --max_iters are both budgets"),
        (("train", "--until", "soon"), "--until 'soon' is no time: write 07:00, or '2026-11-25 07:00'"),
        (("train", "--until", "2020-01-01 07:00"), "is past: give a time to come"),
        (("plan", "--until", "07:00"), "unknown option --until"),
        (("train", "--json"), "unknown option --json: neither this command nor a recipe has one of that name"),
        (
            ("train", "--json", "--fresh"),
            "unknown option --json: neither this command nor a recipe has one of that name",
        ),
        (("plan", "--fresh"), "unknown option --fresh"),
        (("train", "--n_layer"), "--n_layer needs a value"),
        (("eval", "missing"), "missing is no run folder"),
        (("sample", "missing", "prompt"), "missing is no run folder"),
        (("sample", "missing"), "PROMPT"),
        (("data", "status", "missing"), "missing holds no shards"),
        (("data", "prepare", "missing"), "no source 'missing'"),
        (("data", "prepare", "python", "--tokens", "many"), "--tokens: 'many' is not a number of tokens"),
        (("data", "prepare", "python", "--tokens", "0"), "--tokens 0: give at least one token"),
        (("data", "prepare", "python", "--tokenizer", "gpt4"), "unknown tokenizer 'gpt4'"),
        (("train", "missing.toml"), "missing.toml does not exist"),
        (("trian",), "trian"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(
    nanofit: Nanofit, arguments: tuple[str, ...], said: str
) -> None:
    ran = nanofit(*arguments)
    assert ran.code == 2
    assert ran.out == "" or "--json" in arguments
    (line,) = ran.err.splitlines()
    assert line.startswith("nanofit: ")
    assert said in line


def test_a_mistake_of_usage_names_the_help(nanofit: Nanofit) -> None:
    assert nanofit("sample").err == "nanofit: Missing argument 'RUN': see nanofit sample --help\n"
    assert nanofit("runs", "--bogus").err == "nanofit: No such option: --bogus: see nanofit runs --help\n"


def test_a_mistake_as_a_user_sees_it(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "nanofit", "plan", "--n_layers", "3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 2
    assert (ran.stdout, ran.stderr) == ("", "nanofit: unknown option --n_layers (did you mean 'n_layer'?)\n")


def test_a_place_that_can_not_be_written_is_a_mistake(nanofit: Nanofit, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = nanofit("plan", "--save", "file/run.toml")
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert "file" in ran.err


def test_a_failure_of_ours_shows_its_traceback(nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path, report: Report) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("nanofit.config.run_folder.list_runs", broken)
    with pytest.raises(ZeroDivisionError):
        nanofit("runs")


# Ends from outside


def test_ctrl_c_is_130(nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path, report: Report) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nanofit.config.run_folder.list_runs", interrupted)
    ran = nanofit("runs")
    assert (ran.code, ran.err) == (130, "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_sigterm_is_143(tmp_path: Path) -> None:
    code = """
import time, nanofit.config.run_folder
def wait(folder, report):
    print("waiting", flush=True)
    time.sleep(60)
nanofit.config.run_folder.list_runs = wait
from nanofit.cli import main
main()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, "runs"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert process.stderr.read() == ""


def test_ctrl_c_while_modules_are_loaded_is_130(tmp_path: Path) -> None:
    code = """
import sys
class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == "nanofit.cli.plan":
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
from nanofit.cli import main
main()
"""
    ran = subprocess.run([sys.executable, "-c", code, "runs"], cwd=tmp_path, capture_output=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, b"", b"")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "nanofit", "plan", "--json"],
            cwd=tmp_path,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_json_is_the_whole_of_stdout(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "nanofit", "plan", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0
    assert ran.stderr == ""
    assert isinstance(json.loads(ran.stdout), dict)


# Errors as JSON


def error_of(ran: Ran) -> dict[str, Any]:
    document = json.loads(ran.out)
    assert set(document) == {"format_version", "error"}
    assert document["format_version"] == 1
    return document["error"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "missing.toml", "--json"),
        ("runs", "missing", "--json"),
        ("runs", "--json", "--bogus"),
        ("eval", "--json"),
        ("data", "status", "missing", "--json"),
        ("data", "verify", "missing", "--json"),
        ("probe", "--json", "--n_layers=3"),
        ("trian", "--json"),
    ],
    ids=" ".join,
)
def test_with_json_a_mistake_is_a_document_too(nanofit: Nanofit, arguments: tuple[str, ...]) -> None:
    ran = nanofit(*arguments)
    assert ran.code == 2
    error = error_of(ran)
    assert ran.err == f"nanofit: {error['message']}\n"
    assert error["exit_code"] == 2


def test_a_failure_of_ours_is_a_document_too(nanofit: Nanofit, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(folder: Path, report: Report) -> None:
        raise ZeroDivisionError("by nothing")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nanofit.config.run_folder.list_runs", broken)
        with pytest.raises(ZeroDivisionError):
            nanofit("runs", "--json")
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {"message": "ZeroDivisionError: by nothing", "exit_code": 1}


def test_ctrl_c_is_a_document_too(nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path, report: Report) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nanofit.config.run_folder.list_runs", interrupted)
    ran = nanofit("runs", "--json")
    assert (ran.code, ran.err) == (130, "")
    assert error_of(ran) == {"message": "stopped by Ctrl-C", "exit_code": 130}


def test_json_among_the_arguments_is_no_option(nanofit: Nanofit) -> None:
    assert nanofit("runs", "--", "--json").out == ""
