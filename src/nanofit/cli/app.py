"""The `nanofit` command: its verbs, and how an error becomes one line and an exit code.

Exit codes: 0 success, 1 a failure of ours (with a traceback), 2 the user's mistake (one line), 130 after Ctrl-C,
143 after SIGTERM.
"""

import signal
import sys
from typing import NoReturn

import typer
from typer.exceptions import TyperException

import nanofit
from nanofit.cli import data, gpus, guide, plan, probe, quickstart, run, runs, train
from nanofit.cli.overrides import RecipeCommand
from nanofit.errors import UserError

app = typer.Typer(
    name="nanofit",
    help="Plans, proves and trains the best small GPT that your machine can train.",
    epilog="Begin with: nanofit quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command("quickstart")(quickstart.quickstart)
app.command("plan", cls=RecipeCommand)(plan.plan)
app.command("guide")(guide.guide)
app.command("gpus")(gpus.gpus)
app.command("probe", cls=RecipeCommand)(probe.probe)
app.add_typer(data.app, name="data")
app.command("train", cls=RecipeCommand)(train.train)
app.command("eval")(run.evaluate)
app.command("sample")(run.sample)
app.command("runs")(runs.runs)
app.command("doctor")(runs.doctor)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(f"nanofit {nanofit.__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Runs the command line and exits."""
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    sys.exit(_run())


def _run() -> int:
    try:
        return app(standalone_mode=False) or 0
    except UserError as error:
        return _fail(str(error))
    except TyperException as error:
        return _fail(error.format_message())
    except KeyboardInterrupt:
        return 130
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            return 0  # whoever read our output has seen enough; typer would call that a failure
        raise
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}")
    except Exception as error:
        # Looked up by name: the class is on a floor that imports torch, which most commands never do.
        if type(error).__name__ == "Stopped":
            return 128 + getattr(error, "signal_number", signal.SIGINT)
        raise


def _fail(message: str) -> int:
    print(f"nanofit: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _exit_on_sigterm(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)
