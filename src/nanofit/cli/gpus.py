"""`nanofit gpus`: the cards that can be planned for."""

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from nanofit.hardware.nvml import Detected


def gpus(as_json: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> None:
    """List the cards that nanofit plan --gpu knows, and mark this machine's.

    Example: nanofit gpus --json
    """
    from nanofit.hardware.gpus import catalogue
    from nanofit.hardware.nvml import detect

    if as_json:
        typer.echo(json.dumps([gpu.document() for gpu in catalogue()], indent=2))
    else:
        _show(detect())


def _show(here: "Detected | None") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from nanofit.common.units import figure
    from nanofit.hardware.gpus import catalogue

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("card", "kind", "GiB", "usable", "TFLOPS", "GB/s", "watts", "bf16"):
        table.add_column(column, justify="left" if column in ("card", "kind", "bf16") else "right", no_wrap=True)
    for gpu in catalogue():
        ours = here is not None and gpu.name == here.gpu.name
        table.add_row(
            f"{gpu.name} ← here" if ours else gpu.name,
            gpu.kind,
            f"{gpu.vram_gib:g}",
            f"{gpu.usable_gib:.1f}",
            figure(gpu.tflops) if gpu.tflops < 100 else f"{gpu.tflops:.0f}",
            f"{gpu.bandwidth_gbs:.0f}",
            f"{gpu.watts:.0f}",
            "yes" if gpu.native_bf16 else "no",
            style="bold green" if ours else None,
        )
    console = Console()
    console.print(table, highlight=False)
    console.print(
        "\nusable: what the driver leaves of the memory; of memory that is shared with the system (unified), what an idle system "
        "leaves. TFLOPS: dense bf16 (fp16 without bf16) with fp32 accumulation; fp32 on cards without tensor cores.\n"
        "A card that is not here: nanofit plan --vram GIB --tflops N --bandwidth GB/S. Every figure's source: nanofit gpus --json",
        style="dim",
        highlight=False,
    )
    if here is not None:
        speed = f"; not in the list, so planned at the speed of {here.gpu.speed_of}" if here.gpu.speed_of else ""
        console.print(
            f"This machine: {escape(here.gpu.name)}, {here.free_gib:.1f} of {here.gpu.usable_gib:.1f} GiB free{speed}",
            highlight=False,
        )
