"""How events look: a bar that is always the newest state in a terminal, lines elsewhere."""

import io

import pytest
from rich.console import Console

from nanofit.cli import progress
from nanofit.cli.progress import PreparingRate, Watcher
from nanofit.common.events import Activity, Evaluated, Event, Note, Preparing, Progress, Verifying, Waiting


class Clock:
    """Seconds that pass when the test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def preparing(read: float, tokens: int, **more: object) -> Preparing:
    values: dict[str, object] = {"text_bytes": 4 * tokens, "slowest": "tokenizing"} | more
    return Preparing(int(read * 1000), 1_000_000, tokens, tokens // 500, **values)  # pyright: ignore[reportArgumentType]


def facts_of(*timed: tuple[float, Preparing]) -> list[str]:
    clock = Clock()
    rate = PreparingRate(clock)
    for now, event in timed:
        clock.now = now
        rate.add(event)
    return [*rate.facts(timed[-1][1]), *rate.remaining(timed[-1][1])]


def test_the_first_event_has_no_speed() -> None:
    assert facts_of((0, preparing(0, 0))) == ["0 tokens", "0 documents", "0 B of 977 KiB read"]


def test_what_is_left_by_the_bytes_of_the_source() -> None:
    facts = facts_of((0, preparing(100, 10_000_000)), (10, preparing(200, 60_000_000)))
    # 4 bytes per token, 50M tokens in 10 s; 800 kB left at 10 kB/s.
    assert facts == [
        "60M tokens",
        "120k documents",
        "20 MB/s of text",
        "1m20s left",
        "slowest: tokenizing",
        "195 KiB of 977 KiB read",
    ]


def test_what_is_left_by_the_tokens_that_are_asked_for() -> None:
    first = preparing(100, 10_000_000, target_tokens=110_000_000)
    last = preparing(200, 60_000_000, target_tokens=110_000_000, slowest="reading", is_download=True)
    assert facts_of((0, first), (10, last))[3:] == ["10s left", "slowest: network", "195 KiB of 977 KiB downloaded"]


def test_only_the_last_seconds_count() -> None:
    slow = [(float(second), preparing(second / 10, second * 1000)) for second in range(60)]
    fast = [(59.0 + second, preparing(6 + second, 59_000 + second * 1_000_000)) for second in range(1, 16)]
    assert "4 MB/s of text" in facts_of(*slow, *fast)


def test_a_set_that_is_done_has_nothing_left() -> None:
    facts = facts_of((0, preparing(900, 10_000_000)), (10, preparing(1000, 60_000_000)))
    assert not any("left" in fact or "slowest" in fact for fact in facts)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 120 columns gets."""
    file = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=file, force_terminal=True, width=120))
    monkeypatch.setenv("TERM", "xterm")
    return file


def train(step: int, waited: float = 0.0) -> Progress:
    return Progress(step, 100, step * 1000, 3.0, 1e-3, 500.0, None, 0, 1.0, waited)


def shown(watcher: Watcher) -> str:
    """The text of the bar."""
    assert watcher._bar is not None
    return watcher._bar.tasks[0].fields["text"]


def test_a_wait_that_passes_is_in_the_bar(screen: io.StringIO) -> None:
    with Watcher() as watcher:
        watcher(Waiting("waiting for data: 5 tokens prepared", passes=True))
        assert shown(watcher) == "waiting for data: 5 tokens prepared"
        watcher(train(10, 12.3))
        assert shown(watcher).startswith("loss 3.0000")
        assert shown(watcher).endswith("12s waiting for data")
        watcher(Waiting("waiting for data: 9 tokens prepared", passes=True))
        assert shown(watcher) == "waiting for data: 9 tokens prepared"
        assert watcher._bar is not None
        assert watcher._bar.tasks[0].completed == 10
    # Never a line of its own: what a terminal keeps when the bar is gone.
    assert "\nwaiting" not in screen.getvalue()


def test_a_wait_that_needs_somebody_is_a_line(screen: io.StringIO) -> None:
    with Watcher() as watcher:
        watcher(train(10))
        watcher(Waiting("the disk is full"))
        assert shown(watcher).startswith("loss")
    assert "the disk is full" in screen.getvalue()


def test_no_waiting_no_word_of_it(screen: io.StringIO) -> None:
    with Watcher() as watcher:
        watcher(train(10, 0.4))
        assert "waiting" not in shown(watcher)


def test_the_share_is_of_what_was_asked_for(screen: io.StringIO) -> None:
    with Watcher() as watcher:
        watcher(preparing(10, 3_000_000, target_tokens=10_000_000))
        assert watcher._bar is not None
        assert watcher._bar.tasks[0].percentage == pytest.approx(30)
        watcher(preparing(20, 12_000_000, target_tokens=10_000_000))  # validation's are in it
        assert watcher._bar.tasks[0].percentage == 100
        watcher(Verifying("reading a.bin", 5, 10))
        assert watcher._bar.tasks[0].percentage == 50
        assert shown(watcher) == "reading a.bin: 5 B of 10 B"


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Watcher() as watcher:
        watcher(preparing(10, 5000))
        watcher(preparing(1000, 9000))
        watcher(preparing(1000, 9000))
        watcher(Waiting("waiting for data: 5 tokens prepared", passes=True))
        watcher(Waiting("the disk is full"))
        watcher(Note("a note"))
        watcher(train(100, 61.0))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "preparing data: 5k tokens, 10 documents, 9.8 KiB of 977 KiB read"
    # The end is said, once.
    assert lines[1].startswith("preparing data: 9k tokens, 18 documents, ")
    assert lines[2:5] == ["waiting for data: 5 tokens prepared", "waiting: the disk is full", "a note"]
    assert lines[5] == "step 100 of 100: loss 3.0000, 500 tok/s, 0s left, 1m01s waiting for data"


def test_what_is_being_done_is_in_the_bar_until_it_is_over(screen: io.StringIO) -> None:
    with Watcher() as watcher:
        watcher(Activity("evaluating: 0% of 262,144 tokens"))
        assert shown(watcher) == "evaluating: 0% of 262,144 tokens"
        watcher(Activity())
        assert watcher._bar is None
        watcher(train(10))
        figures = shown(watcher)
        watcher(Waiting("waiting for data: 5 tokens prepared", passes=True))
        watcher(Activity("evaluating: 12% of 262,144 tokens"))
        assert shown(watcher) == "evaluating: 12% of 262,144 tokens"
        assert watcher._bar is not None
        assert watcher._bar.tasks[0].completed == 10
        watcher(Activity())
        assert shown(watcher) == figures
    assert "\nevaluating" not in screen.getvalue()


def test_what_takes_long_is_a_line_now_and_then_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Watcher() as watcher:
        for share in (0, 1, 2, 3):
            watcher(Activity(f"evaluating: {share}% of 262,144 tokens"))
        watcher(Activity())
    assert capsys.readouterr().err.splitlines() == ["evaluating: 0% of 262,144 tokens"]


# Narrow terminals


def drawn(monkeypatch: pytest.MonkeyPatch, width: int, *told: Event) -> list[str]:
    """What a terminal of `width` columns shows at the end of these events, without what was before."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    monkeypatch.setenv("TERM", "xterm")
    with Watcher() as watcher:
        for event in told:
            watcher(event)
        assert watcher._bar is not None
        plain = Console(file=io.StringIO(), width=width)
        with plain.capture() as capture:
            plain.print(watcher._bar.get_renderable())
        return capture.get().splitlines()


LONG = Progress(123_456, 1_234_567, 10**9, 3.1234, 1e-3, 123_456.0, 0.45, 15 * 2**30, 1.0, 99.0)


@pytest.mark.parametrize(("width", "facts"), [(60, 2), (80, 3), (120, 4), (160, 7)])
def test_the_training_line_fits_its_terminal(monkeypatch: pytest.MonkeyPatch, width: int, facts: int) -> None:
    lines = drawn(monkeypatch, width, Evaluated(100, 3.2, 5.0), LONG)
    assert len(lines) == 1
    assert "…" not in lines[0]
    assert len(lines[0].split("·")) >= facts
    assert "loss 3.1234" in lines[0]
    assert "left" in lines[0]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_preparing_lines_fit_their_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    first = Preparing(10**9, 10**12, 10**8, 10**6, text_bytes=4 * 10**8, slowest="reading", is_download=True)
    last = Preparing(10**10, 10**12, 10**9, 10**7, text_bytes=4 * 10**9, slowest="reading", is_download=True)
    lines = drawn(monkeypatch, width, first, last)
    assert len(lines) == 2
    assert "1B tokens" in lines[0]
    assert "9.3 GiB of 931 GiB downloaded" in lines[1]
