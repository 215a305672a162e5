"""What a run was promised beside what it reached, as lines of text."""

from nanofit.planning.promise import Comparison, Promised


def lines_of(promised: Promised, rows: list[Comparison]) -> list[str]:
    """A heading, and a line for each figure: its name, the promise, what was reached, and whether the promise was kept."""
    card = f" for {promised.gpu}" if promised.gpu is not None else ""
    widths = [
        max(len(text) for text in column) for column in zip(*((row.promised, row.reached) for row in rows), strict=True)
    ]
    lines = [f"promised{card}, and reached:"]
    for row in rows:
        verdict = {None: "", True: "kept", False: "not kept"}[row.kept]
        said = ": ".join(part for part in (verdict, row.reason) if part)
        line = f"  {row.name:9} {row.promised:{widths[0]}}  {row.reached:{widths[1]}}"
        lines.append(f"{line}  {said}".rstrip())
    return lines
