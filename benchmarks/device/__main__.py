"""The command line of the device benchmark (see the package). torch and nanofit are imported only after --wheels was read."""

import argparse
import importlib.util
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MINUTES = 9.0
LIGHT = "pip install -c constraints.txt . on this machine, or give their wheels with --wheels DIR"


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; exits with 2 for a user's mistake, said in one line, and with 1 when a part failed."""
    begin = time.monotonic()
    arguments = sys.argv[1:] if arguments is None else arguments
    prepares = arguments[:1] == ["prepare"]
    parser = _prepare_options() if prepares else _options()
    options = parser.parse_args(arguments[1:] if prepares else arguments)
    if importlib.util.find_spec("nanofit") is None:  # not installed: the checkout that this file lies in
        sys.path.insert(0, str(Path(__file__).parents[2] / "src"))
    from nanofit.common.errors import UserError

    with tempfile.TemporaryDirectory(prefix="nanofit-device-") as name:
        try:
            failed = _prepare(options) if prepares else _measure(options, Path(name), begin)
        except UserError as error:
            parser.error(str(error))
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith(("nanofit", "benchmarks")):
                raise
            parser.error(f"the package {error.name} is missing: {LIGHT}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _prepare_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.device prepare", description="Makes the tokens that the benchmark trains on."
    )
    parser.add_argument("--corpus", required=True, help="text: whatever nanofit data prepare takes")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write, less than 30 MB")
    return parser


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.device", description="Measures everything that needs a GPU, in one command."
    )
    parser.add_argument("--tokens", type=Path, help="what `prepare` made; without it loss and resume are skipped")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of github.com/karpathy/nanoGPT, to compare with")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels of packages that this machine lacks")
    parser.add_argument("--only", help="some of card,memory,speed,nanogpt,loss,oom,resume")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"all must end within them ({MINUTES:g})")
    parser.add_argument("--device", default="cuda", help="cuda, or cuda:1")
    parser.add_argument("--out", type=Path, help="the JSON to write; benchmarks/results/device-NAME.json unless given")
    parser.add_argument("--small", action="store_true", help="tiny models on the CPU: shows that it works, no more")
    return parser


def _prepare(options: argparse.Namespace) -> list[str]:
    from benchmarks.device.tokens import make_tokens
    from nanofit.common.events import silent

    tokens = make_tokens(options.corpus, options.out, silent)
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {len(tokens.train):,} train and {len(tokens.val):,} val tokens, {size:.1f} MB")
    return []


def _measure(options: argparse.Namespace, work: Path, begin: float) -> list[str]:
    """Runs the parts and prints the result; returns the names of the parts that failed."""
    from nanofit.common.errors import UserError

    wheels: list[str] = []
    if options.wheels is not None:
        from benchmarks.device.wheels import use_wheels

        wheels = use_wheels(options.wheels, work / "wheels")
    if options.small and options.out is None:
        raise UserError("--small needs --out: its figures belong to no device's results")
    if options.device == "cpu" and not options.small:
        raise UserError("a CPU would take hours: --small measures tiny models on it")
    if options.nanogpt is not None and not (options.nanogpt / "model.py").is_file():
        raise UserError(
            f"{options.nanogpt} is no nanoGPT checkout (no model.py): git clone https://github.com/karpathy/nanoGPT"
        )
    from benchmarks.device.parts import chosen, run_parts
    from benchmarks.device.report import Result, table
    from benchmarks.device.session import Session
    from benchmarks.device.tokens import read_tokens, unpack
    from benchmarks.nanogpt_cpu import describe_machine, describe_versions

    parts = chosen(options.only)
    data: dict[str, Any] | None = None
    shards = None
    if options.tokens is not None:
        manifest = unpack(read_tokens(options.tokens), work / "shards")
        shards = manifest.folder
        data = {
            "digest": manifest.digest,
            "train_tokens": manifest.tokens("train"),
            "val_tokens": manifest.tokens("val"),
        }
    seconds = 60 * options.minutes
    session = Session(
        device="cpu" if options.small else options.device,
        small=options.small,
        work=work,
        shards=shards,
        nanogpt=options.nanogpt.resolve() if options.nanogpt is not None else None,
        until=begin + seconds,
    )
    head = {
        "form": "small" if options.small else "full",
        "minutes": options.minutes,
        "machine": describe_machine(),
        "versions": describe_versions(),
        "wheels": wheels,
        "data": data,
    }
    result = Result(options.out, head)

    def receive(part: str, piece: dict[str, Any]) -> None:
        result.add(part, piece)
        if "status" in piece:
            taken = f" after {piece['seconds']:.1f} s" if "seconds" in piece else ""
            print(f"{part} {piece['status']}{taken}", file=sys.stderr, flush=True)

    run_parts(parts, session, seconds, receive)
    print(table(result.document))
    print(result.file)
    return result.failed


if __name__ == "__main__":
    main()
