"""The `nanofit` command: its subcommands, and how an error becomes one line, a document and an exit code.

Exit codes: 0 success, 1 a failure of ours (with a traceback), 2 the user's mistake (one line), 130 after Ctrl-C,
143 after SIGTERM, 129 after a closed terminal (SIGHUP) in training. With `--json` an error is also a JSON document on
stdout (docs/json.md).
"""

import json
import signal
import sys
from contextlib import suppress
from typing import NoReturn

import typer
from typer.exceptions import TyperException

import nanofit
from nanofit.cli import data, gpus, guide, plan, probe, quickstart, run, runs, train
from nanofit.cli.command import Command
from nanofit.cli.overrides import RecipeCommand
from nanofit.cli.streams import prepare_streams
from nanofit.common.errors import Stopped, UserError

ERROR_FORMAT_VERSION = 1

INTERRUPTED = "stopped by Ctrl-C"

app = typer.Typer(
    name="nanofit",
    help="Plans, proves and trains the best small GPT that your machine can train.",
    epilog="Begin with: nanofit quickstart",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command("quickstart", cls=Command, short_help="Plan, train, evaluate and sample a small GPT in minutes.")(
    quickstart.quickstart
)
app.command("plan", cls=RecipeCommand, short_help="Choose the best recipe for a card and hours, or check yours.")(
    plan.plan
)
app.command("guide", cls=Command, short_help="Compare a widely copied guide with what its settings give.")(guide.guide)
app.command("gpus", cls=Command, short_help="List the cards that can be planned for.")(gpus.gpus)
app.command("probe", cls=RecipeCommand, short_help="Measure the memory and the speed of real training steps.")(
    probe.probe
)
app.add_typer(data.app, name="data", short_help="Prepare, list and verify tokenized text.")
app.command("train", cls=RecipeCommand, short_help="Train a recipe, or resume a run.")(train.train)
app.command("eval", cls=Command, short_help="Measure the validation loss of a run.")(run.evaluate)
app.command("sample", cls=Command, short_help="Generate text with a run.")(run.sample)
app.command("runs", cls=Command, short_help="List runs and their state.")(runs.runs)
app.command("doctor", cls=Command, short_help="Check what this machine can do.")(runs.doctor)


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and exit.")
) -> None:
    if version:
        typer.echo(f"nanofit {nanofit.__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main() -> NoReturn:
    """Runs the command line and exits."""
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    prepare_streams()
    sys.exit(_run())


def _run() -> int:
    """Runs the command that sys.argv holds and returns its exit code. Raises every error that is our failure."""
    try:
        code = app(standalone_mode=False, prog_name="nanofit") or 0
        return _report(130, INTERRUPTED) if code == 130 else code  # typer turns a KeyboardInterrupt into this code
    except KeyboardInterrupt:  # while nothing of typer's runs
        return _report(130, INTERRUPTED)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            return 0  # whoever read our output has seen enough; typer would call that a failure
        _report(error.code if isinstance(error.code, int) else 1, "stopped by SIGTERM")
        raise
    except Exception as error:
        message = _mistake(error)
        if message is not None:
            return _report(2, message)
        if isinstance(error, Stopped):
            return _report(128 + error.signal_number, str(error))
        _report(1, f"{type(error).__name__}: {error}")
        raise


def _mistake(error: Exception) -> str | None:
    """The line that tells users of their mistake; None for any other error."""
    match error:
        case UserError():
            return str(error)
        case TyperException():
            context = getattr(error, "ctx", None)
            help_command = f": see {context.command_path} --help" if context is not None else ""
            return error.format_message().rstrip(".") + help_command
        case OSError(filename=filename) if filename is not None:
            return f"{filename}: {error.strerror}"
    return None


def _report(exit_code: int, message: str) -> int:
    """Writes what ended the command: on stderr if it was the user's mistake, on stdout with --json; returns `exit_code`."""
    message = " ".join(message.split()).encode("utf-8", "backslashreplace").decode("utf-8")  # a path may hold any bytes
    if exit_code == 2:
        print(f"nanofit: {message}", file=sys.stderr)
    if _wants_json(sys.argv[1:]):
        error = {"message": message, "exit_code": exit_code}
        with suppress(BrokenPipeError):
            print(json.dumps({"format_version": ERROR_FORMAT_VERSION, "error": error}, indent=2))
    return exit_code


def _wants_json(arguments: list[str]) -> bool:
    """Whether --json is among the options, which end at `--`. The mistake may be one of parsing, so nothing is parsed."""
    return "--json" in arguments[: arguments.index("--") if "--" in arguments else None]


def _exit_on_sigterm(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)
