"""`nanofit guide`."""

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from nanofit.planning.guide import Tier
    from nanofit.planning.interval import Interval


def guide(as_json: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> None:
    """Show a widely copied guide's settings as they are claimed and as they really are, beside nanofit's for the same card and time.

    Each is a preset: nanofit plan guide-24gb --gpu "RTX 4090", nanofit train guide-24gb.

    Example: nanofit guide
    """
    from nanofit.planning.guide import tiers

    found = tiers()
    if as_json:
        typer.echo(json.dumps([tier.document() for tier in found], indent=2))
    else:
        _show(found)


def _show(found: "list[Tier]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from nanofit.common.units import quantity

    console = Console()
    for tier in found:
        preset, true, ours = tier.preset, tier.true.predicted, tier.ours.predicted
        assert true.hours is not None and true.peak_memory_gib is not None and true.tokens is not None
        assert ours.peak_memory_gib is not None and ours.tokens is not None
        console.print(f"[bold]{preset.name}[/bold]  {escape(preset.cards)}, on {preset.card}", highlight=False)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
        for column in ("", "claimed", "true", f"nanofit in {true.hours.mid:,.0f} h"):
            table.add_column(column, justify="left" if not column else "right")
        model, other = tier.true.recipe.model, tier.ours.recipe.model
        table.add_row("parameters", preset.claimed_params, quantity(true.params_total), quantity(ours.params_total))
        table.add_row(
            "layers x heads x width",
            "",
            f"{model.n_layer} x {model.n_head} x {model.n_embd}",
            f"{other.n_layer} x {other.n_head} x {other.n_embd}",
        )
        table.add_row("tokens", preset.claimed_tokens or "", quantity(true.tokens), quantity(ours.tokens))
        table.add_row(
            "memory guaranteed, GiB",
            "",
            _memory(true.peak_memory_gib, true.fits),
            _memory(ours.peak_memory_gib, ours.fits),
        )
        table.add_row("nanoGPT's own, eager, GiB", preset.claimed_vram or "", f"{tier.nanogpt_gib:.1f}", "")
        table.add_row("expected loss", "", _loss(true.val_loss), _loss(ours.val_loss))
        console.print(table)
        console.print(f'  the guide: "{escape(preset.claimed_note)}"', style="dim", highlight=False)
        for claim in tier.claims:
            console.print(f"  [yellow]·[/yellow] {escape(claim.text())}", highlight=False)
        for finding in tier.findings:
            console.print(f"  [yellow]·[/yellow] {escape(finding)}", highlight=False)
        console.print()
    console.print("[bold]what the guide says besides[/bold], with figures for guide-24gb", highlight=False)
    for claim in next(tier for tier in found if tier.preset.name == "guide-24gb").general:
        console.print(f"  [yellow]·[/yellow] {escape(claim.text())}", highlight=False)


def _memory(gib: float, fits: bool | None) -> str:
    return f"{gib:.1f}" if fits else f"{gib:.1f}, too much"


def _loss(value: "Interval | None") -> str:
    from nanofit.cli.plan_rows import between

    return between(value) if value is not None else ""
