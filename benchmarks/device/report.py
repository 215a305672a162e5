"""The result of the benchmark: one JSON, written again after every piece, and the few lines of it that a person reads."""

import json
import math
import re
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
RESULTS = Path(__file__).parents[1] / "results"


class Result:
    """The document as it grows. Without a `file` it is named after the device, once that is known."""

    def __init__(self, file: Path | None, head: dict[str, Any]) -> None:
        self.file = file
        self.document: dict[str, Any] = {"format_version": FORMAT_VERSION, "benchmark": "device", **head, "parts": {}}

    def add(self, part: str, piece: dict[str, Any]) -> None:
        """Lays a piece of a part over what there is of it, and writes all."""
        merge(self.document["parts"].setdefault(part, {}), piece)
        if self.file is None and "name" in piece and part == "card":
            self.file = RESULTS / f"device-{re.sub('[^a-z0-9]+', '-', piece['name'].lower()).strip('-')}.json"
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.file.with_suffix(".tmp")
            temporary.write_text(json.dumps(finite(self.document), indent=1, allow_nan=False) + "\n")
            temporary.replace(self.file)

    @property
    def failed(self) -> list[str]:
        """The parts that failed."""
        return [name for name, part in self.document["parts"].items() if part.get("status") == "failed"]


def merge(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    """Lays `piece` over `whole`, in place: lists grow, dictionaries are merged, all else is replaced."""
    for name, value in piece.items():
        if isinstance(value, list) and isinstance(whole.get(name), list):
            whole[name] = whole[name] + value
        elif isinstance(value, dict) and isinstance(whole.get(name), dict):
            merge(whole[name], value)
        else:
            whole[name] = value


def finite(value: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(document: dict[str, Any]) -> str:
    """The result as a person reads it."""
    lines = []
    for name, part in document["parts"].items():
        why = part.get("error") or part.get("reason")
        lines.append(f"{name}: {part.get('status', 'cut')}" + (f" ({why})" if why else ""))
        lines += [f"  {line}" for line in _LINES.get(name, _nothing)(part)]
    return "\n".join(lines)


def _nothing(part: dict[str, Any]) -> list[str]:
    return []


def _recipe(recipe: dict[str, Any], compiled: bool | None) -> str:
    size = f"{recipe['n_layer']} x {recipe['n_embd']}"
    batch = f"{recipe['grad_accum']} x {recipe['micro_batch']} x {recipe['block_size']}"
    how = "compiled" if compiled else "eager"
    return (
        f"{recipe['arch']:<9}{recipe['optimizer']:<6}{size:>9}{batch:>15}  checkpointing {recipe['checkpointing']:<5}"
        f"chunk {recipe['loss_chunk']:<6}{how:<9}"
    )


def _card(part: dict[str, Any]) -> list[str]:
    product = part.get("product")
    rate = f", {product['flops'] / 1e12:.3g} TFLOP/s in {product['dtype']} products" if product else ""
    return [f"{part['name']}{rate}"] if "name" in part else []


def _memory(part: dict[str, Any]) -> list[str]:
    lines = []
    for row in part.get("rows", []):
        peak = row.get("peak", {})
        size = peak.get("allocated_gib", peak.get("resident_gib"))
        expected = row["predicted"]["expected_allocated_gib"]
        predicted = f"  predicted {expected:.2f}" if expected is not None else ""
        measured = "out of memory" if size is None else f"{size:.2f} GiB"
        lines.append(f"{_recipe(row['recipe'], row.get('compiled'))}{measured:>14}{predicted}")
    return lines


def _speed(part: dict[str, Any]) -> list[str]:
    lines = []
    for row in part.get("rows", []):
        rate, mfu = row.get("tokens_per_second"), row.get("mfu")
        measured = "out of memory" if rate is None else f"{rate:,.0f} tokens/s"
        share = f"  MFU {mfu:.1%}" if mfu is not None else ""
        lines.append(f"{_recipe(row['recipe'], row.get('compiled'))}{measured:>18}{share}")
    return lines


def _nanogpt(part: dict[str, Any]) -> list[str]:
    lines = []
    for name, ratio in part.get("tokens_per_second_ratio", {}).items():
        peak = ", ".join(f"{which.removesuffix('_gib')} {of:.3f} x" for which, of in part["peak_ratio"][name].items())
        lines.append(f"{name} against nanoGPT: {ratio:.3f} x its tokens/s, {peak} its peak memory")
    return lines


def _loss(part: dict[str, Any]) -> list[str]:
    lines = []
    for name, of in part.get("recipes", {}).items():
        end = of["curve"][-1]
        lines.append(f"{name}: {end['val_loss']:.4f} after {end['seconds']:.1f} s, {of['tokens']:,} tokens")
    if part.get("times_faster_to_nanogpts_loss"):
        lines.append(f"nanofit is there {part['times_faster_to_nanogpts_loss']:.2f} times as fast")
    return lines


def _oom(part: dict[str, Any]) -> list[str]:
    if "half" not in part:
        return [part["gave_up"]] if "gave_up" in part else []
    works = "works" if part["half"]["works"] else "does not fit either"
    return [f"runs out at micro-batch {part['runs_out_at']}; afterwards {part['half']['micro_batch']} {works}"]


def _resume(part: dict[str, Any]) -> list[str]:
    names = {"after_resuming": "after resuming", "between_uninterrupted": "between two uninterrupted runs"}
    return [
        f"largest difference of a training loss {words}: {part[name]['train_loss']:.2g}"
        for name, words in names.items()
        if name in part
    ]


_LINES = {
    "card": _card,
    "memory": _memory,
    "speed": _speed,
    "nanogpt": _nanogpt,
    "loss": _loss,
    "oom": _oom,
    "resume": _resume,
}
