"""The chart of the loss over the hours: what lies where."""

import pytest

from nanofit.cli.loss_chart import MAX_ROWS, loss_chart
from nanofit.planning.interval import Interval
from nanofit.planning.loss.law import TARGETS
from nanofit.planning.loss_vs_hours import FinishedRun


def runs(last: float = 3.0, hours: float = 24.0) -> list[FinishedRun]:
    """Losses that fall as 1 over the root of the hours down to `last`."""
    shares = [number / 48 for number in range(1, 49)]
    mids = [(share, last - 0.3 + 0.3 * share**-0.5) for share in shares]
    return [FinishedRun(share * hours, share * 1e9, Interval(mid - 0.05, mid, mid + 0.05)) for share, mid in mids]


def chart(of: list[FinishedRun], width: int = 80) -> list[str]:
    return [line.plain for line in loss_chart(of, TARGETS, width, ascii_only=True)]


def row_of(lines: list[str], text: str) -> int:
    return next(number for number, line in enumerate(lines) if text in line)


@pytest.mark.parametrize("last", [2.5, 2.79, 3.3, 4.15, 6.0, 9.0, 11.0])
@pytest.mark.parametrize("width", [60, 80, 116])
def test_it_fits_its_width_and_names_gpt2s_levels(last: float, width: int) -> None:
    lines = chart(runs(last), width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= MAX_ROWS + 2
    text = "\n".join(lines)
    assert all(name in text for name in ("124M", "350M", "774M"))


def test_the_curve_falls_through_the_levels() -> None:
    lines = chart(runs(3.0))
    rows = [number for number, line in enumerate(lines) for character in line if character == "*"]
    assert rows, "there is a curve"
    columns = [line.index("*") for line in lines if "*" in line]
    assert columns == sorted(columns)
    assert row_of(lines, "GPT-2 124M: 3.425") < row_of(lines, "GPT-2 350M: 3.083") < max(rows)
    assert max(rows) == row_of(lines, "GPT-2 774M: 3.001")  # where it ends


def test_figures_at_the_side_are_the_losses_of_their_rows() -> None:
    lines = chart(runs(3.0))
    ticks = {float(line[:5]): number for number, line in enumerate(lines[:-2])}
    assert len(ticks) >= 4
    (high, first), (low, last) = max(ticks.items()), min(ticks.items())
    for loss, row in ticks.items():
        assert row == pytest.approx(first + (high - loss) / (high - low) * (last - first), abs=0.01)
    nearest = min(ticks, key=lambda loss: abs(loss - 3.001))
    assert ticks[nearest] == row_of(lines, "3.001")


def test_levels_that_share_a_row_are_named_together() -> None:
    text = "\n".join(chart(runs(6.0)))
    assert "350M, 774M" in text


@pytest.mark.parametrize(
    ("hours", "ticks"), [(24, "0 6 12 18 24 h"), (1, "0 0.25 0.5 0.75 1 h"), (45.2, "0 12 24 36 45.2 h")]
)
def test_the_axis_counts_hours_as_people_do(hours: float, ticks: str) -> None:
    assert " ".join(chart(runs(hours=hours), 116)[-1].split()) == ticks


def test_characters_are_ascii_only_where_they_must_be() -> None:
    assert "\n".join(chart(runs())).isascii()
    assert not "\n".join(line.plain for line in loss_chart(runs(), TARGETS, 80)).isascii()
