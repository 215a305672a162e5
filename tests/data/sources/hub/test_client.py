"""The hub client: the bytes that were asked for, whatever the line does; and one line for what can't be mended by waiting."""

import queue
import random
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from huggingface_hub import HfApi, RepoFile, constants, hf_hub_download
from hypothesis import given
from hypothesis import strategies as st

from hub_server import Drop, LocalHub, Stall, Status, WholeFile
from nanofit.common.errors import UserError
from nanofit.common.events import Event, Note
from nanofit.data.sources.hub import client as hub_module
from nanofit.data.sources.hub import retry
from nanofit.data.sources.hub.client import Hub, HubFile, HubUnreachable

REPO = "owner/texts"
FILE = "sample/a file.bin"
CONTENT = random.Random(5).randbytes(300_000)
TOKEN = "hf_secretsecretsecret"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repo")
    for name, content in (
        (FILE, CONTENT),
        ("sample/deep/b.bin", b"b" * 100),
        ("README.md", b"# Texts\n"),
        ("c.txt", b""),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with LocalHub({REPO: folder}) as server:
        server.only_one(monkeypatch)
        yield server


@pytest.fixture
def redirecting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A hub that leaves the bytes of files to another host."""
    with LocalHub({REPO: folder}, cdn=True) as server:
        server.only_one(monkeypatch)
        yield server


real_pause = retry.RetryPolicy.pause


class Clock:
    """Time that passes by waiting alone; `waits` are those between tries."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retry, "monotonic", lambda: clock.now)
    monkeypatch.setattr(retry.RetryPolicy, "pause", lambda policy, seconds: clock.wait(seconds))
    return clock


def file_of(hub: Hub, path: str = FILE) -> HubFile:
    return next(file for file in hub.files() if file.path == path)


def read_all() -> bytes:
    with Hub(REPO) as hub:
        file = file_of(hub)
        return hub.read(file, 0, file.size)


def refusal(revision: str = "main", path: str = FILE) -> str:
    """The one line with which a file can't be read."""
    with pytest.raises(UserError) as caught, Hub(REPO, revision) as hub:
        hub.read(HubFile(path, 10, None), 0, 10)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


# What is read


@pytest.mark.parametrize("page_entries", [1000, 2])
@pytest.mark.parametrize("under", ["", "sample", "sample/deep"])
def test_files_and_commit_are_those_that_the_hubs_own_client_lists(
    server: LocalHub, monkeypatch: pytest.MonkeyPatch, under: str, page_entries: int
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    server.page_entries = page_entries
    api = HfApi(endpoint=server.endpoint)
    entries = api.list_repo_tree(REPO, under or None, recursive=True, repo_type="dataset")
    files = [entry for entry in entries if isinstance(entry, RepoFile)]
    with Hub(REPO) as hub:
        assert hub.files(under) == [
            HubFile(file.path, file.size, file.lfs.sha256 if file.lfs else None)
            for file in sorted(files, key=lambda file: file.path)
        ]
        assert hub.commit == api.dataset_info(REPO).sha


def test_bytes_are_those_that_the_hubs_own_client_downloads(
    redirecting: LocalHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    downloaded = hf_hub_download(
        REPO, FILE, repo_type="dataset", endpoint=redirecting.endpoint, cache_dir=tmp_path, etag_timeout=5
    )
    assert read_all() == Path(downloaded).read_bytes() == CONTENT


@given(
    span=st.tuples(st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT))).map(sorted),
    breaks=st.lists(st.integers(0, len(CONTENT)), max_size=4),
)
def test_any_range_comes_whole_and_no_byte_is_asked_for_twice(
    one_server: LocalHub, span: list[int], breaks: list[int]
) -> None:
    start, end = span
    one_server.heal()
    one_server.add(*(Drop(after_bytes=sent, path=FILE, skip=number) for number, sent in enumerate(breaks)))
    with Hub(REPO) as hub:
        file = file_of(hub)
        before = len(one_server.seen(FILE))
        assert hub.read(file, start, end) == CONTENT[start:end]
    position = start
    for seen in one_server.seen(FILE)[before:]:
        assert seen.range == (position, end)
        position += seen.sent
    assert position == end


@pytest.fixture(scope="module")
def one_server(folder: Path) -> Iterator[LocalHub]:
    """One hub for all examples of a property."""
    with LocalHub({REPO: folder}) as server, pytest.MonkeyPatch.context() as patch:
        server.only_one(patch)
        yield server


def test_a_line_that_breaks_a_hundred_times_costs_no_byte(redirecting: LocalHub) -> None:
    places = random.Random(7)
    breaks = sorted({0, 1, len(CONTENT) - 1, *(places.randrange(len(CONTENT)) for _ in range(100))})
    before = 0
    for number, place in enumerate(breaks):
        redirecting.add(Drop(after_bytes=place - before, path="/cdn/", skip=number))
        before = place
    assert read_all() == CONTENT
    answers = [seen for seen in redirecting.seen("/cdn/") if seen.host == "cdn"]
    assert [seen.range for seen in answers] == [(place, len(CONTENT)) for place in (0, *breaks)]
    assert sum(seen.sent for seen in answers) == len(CONTENT)


def test_ranges_that_are_read_one_after_the_other_share_a_connection(server: LocalHub) -> None:
    with Hub(REPO) as hub:
        file = file_of(hub)
        assert b"".join(hub.read(file, start, start + 1000) for start in range(0, 20_000, 1000)) == CONTENT[:20_000]
    assert server.connections == 1


def test_threads_read_side_by_side_and_all_bytes_are_counted(redirecting: LocalHub) -> None:
    redirecting.add(*(Drop(after_bytes=17 * number, path="/cdn/", skip=3 * number) for number in range(10)))
    with Hub(REPO) as hub, ThreadPoolExecutor(8) as threads:
        file = file_of(hub)
        listed = hub.downloaded_bytes
        parts = threads.map(lambda start: hub.read(file, start, start + 10_000), range(0, len(CONTENT), 10_000))
        assert b"".join(parts) == CONTENT
        assert hub.downloaded_bytes - listed == len(CONTENT)


def test_the_pinned_commit_is_read_though_the_dataset_changes(server: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "sample").mkdir()
    (tmp_path / FILE).write_bytes(b"other")
    with Hub(REPO) as hub:
        file = file_of(hub)
        first = server.commit(REPO)
        assert server.replace(REPO, tmp_path) != first
        assert hub.read(file, 0, file.size) == CONTENT
        assert hub.commit == first
    with Hub(REPO, first) as hub:
        assert hub.read(file, 0, file.size) == CONTENT
    with Hub(REPO) as hub:
        assert hub.read(file_of(hub), 0, 5) == b"other"


def test_a_server_that_ignores_ranges_is_read_past_what_was_not_asked_for(
    server: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add(WholeFile(path=FILE, times=None))
    with Hub(REPO) as hub:
        file = file_of(hub)
        assert hub.read(file, 1000, 2000) == CONTENT[1000:2000]
        monkeypatch.setattr(hub_module, "SKIPPED_BYTES", 999)
        with pytest.raises(UserError, match="whole files only"):
            hub.read(file, 1000, 2000)


# Token, address, proxy


def test_the_token_goes_to_the_hub_and_not_to_the_host_that_it_redirects_to(
    redirecting: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    redirecting.token = TOKEN
    assert read_all() == CONTENT
    assert {seen.authorized for seen in redirecting.log if seen.host == "hub"} == {True}
    assert {seen.authorized for seen in redirecting.log if seen.host == "cdn"} == {False}


def test_a_proxy_of_the_environment_is_used(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("HTTP_PROXY", server.endpoint)
    assert read_all() == CONTENT


def test_a_next_page_is_asked_of_the_address_that_was_given(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror passes on the hub's answers, and with them links to the hub itself."""
    server.page_entries = 2
    link = '<https://elsewhere.invalid/api?recursive=true&cursor=Mg==>; rel="next"'
    server.add(Status(code=200, headers={"Link": link}, page="[]", path="/tree/"))
    with Hub(REPO) as hub:
        assert [file.path for file in hub.files()] == [FILE, "sample/deep/b.bin"]


# What passes


def test_waits_double_up_to_half_a_minute(server: LocalHub, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    server.add(Status(code=503, path=FILE, times=4), Status(code=408, path=FILE, times=4))
    assert read_all() == CONTENT
    assert clock.waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_waits_are_drawn_between_nothing_and_the_most(server: LocalHub, clock: Clock) -> None:
    server.add(Status(code=500, path=FILE, times=200))
    with Hub(REPO, patience_seconds=1e6) as hub:
        hub.read(file_of(hub), 0, 10)
    late = clock.waits[10:]
    assert 0 <= min(late) < 3
    assert 27 < max(late) <= 30


@pytest.mark.parametrize("path", ["/revision/", "/tree/", "/resolve/"])
@pytest.mark.parametrize("form", ["seconds", "date", "limit"])
def test_the_wait_that_the_hub_asks_for_is_kept(server: LocalHub, clock: Clock, form: str, path: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=42), usegmt=True)
    retry_after = {"seconds": "40", "date": date, "limit": None}[form]
    server.add(Status(code=429, path=path, retry_after=retry_after, headers={"RateLimit": '"api";r=0;t=40'}))
    assert read_all() == CONTENT
    (wait,) = clock.waits
    assert 39 < wait < 44


def test_a_wait_that_the_hub_asks_for_is_not_taken_from_the_patience(server: LocalHub, clock: Clock) -> None:
    server.add(Status(code=429, path=FILE, retry_after="300", times=5))
    with Hub(REPO, patience_seconds=60) as hub:
        assert hub.read(file_of(hub), 0, 10) == CONTENT[:10]
        assert len(clock.waits) == 5
        server.add(Status(code=429, path=FILE, retry_after="300", times=None))
        with pytest.raises(HubUnreachable, match="429"):
            hub.read(file_of(hub), 0, 10)
    assert clock.now < 2 * 3600


def test_a_line_that_stalls_counts_as_broken(redirecting: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "READ_SECONDS", 0.1)
    redirecting.add(Stall(after_bytes=1000, path="/cdn/"), Stall(after_bytes=0, path="/cdn/", skip=1))
    redirecting.add(Stall(after_bytes=20, path="/tree/"))
    assert read_all() == CONTENT
    starts = [seen.range[0] for seen in redirecting.seen("/cdn/") if seen.range]
    assert starts == [0, 1000, 1000]


def test_another_hosts_refusal_passes(redirecting: LocalHub) -> None:
    """The addresses that the hub redirects to hold for a time only."""
    redirecting.add(Status(code=403, path="/cdn/"), Status(code=404, path="/cdn/", skip=1))
    assert read_all() == CONTENT


def test_a_dataset_that_was_renamed_is_followed_and_its_refusal_counts(server: LocalHub) -> None:
    moved = {"Location": f"/datasets/{REPO}/resolve/main/missing.bin"}
    server.add(Status(code=307, headers=moved, path="/resolve/", times=1))
    assert "missing.bin is not in" in refusal(path="missing.bin")


def test_a_page_that_is_not_the_hubs_passes(server: LocalHub) -> None:
    server.add(Status(code=200, page="<html>Log in to this network</html>", path="/revision/"))
    assert read_all() == CONTENT


def test_waits_are_told_once_in_half_a_minute(server: LocalHub) -> None:
    told: list[Event] = []
    server.add(Status(code=429, path=FILE, retry_after="10", times=7))
    with Hub(REPO, report=told.append) as hub:
        hub.read(file_of(hub), 0, 10)
    # About 10.5 s each: of the waits that begin at 0, 10, ... 60 s, three are told.
    assert len(told) in (2, 3)
    for event in told:
        assert isinstance(event, Note)
        assert event.warning
        assert "429" in event.text
        assert "next try in 1" in event.text


# When patience ends


def test_patience_ends_with_one_line_of_what_was_tried(server: LocalHub, clock: Clock) -> None:
    server.add(Status(code=503, path=FILE, times=None))
    with pytest.raises(HubUnreachable) as caught, Hub(REPO) as hub:
        hub.read(file_of(hub), 0, 10)
    said = str(caught.value)
    assert "\n" not in said
    for part in (server.endpoint, FILE, REPO, f"{len(clock.waits) + 1} tries in {clock.now:.0f} s", "503"):
        assert part in said
    assert 240 < clock.now <= 300


def test_every_new_byte_renews_the_patience(server: LocalHub, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    server.add(Drop(after_bytes=1000, path=FILE, times=None))
    with Hub(REPO, patience_seconds=1.5) as hub:
        assert hub.read(file_of(hub), 0, 50_000) == CONTENT[:50_000]
    assert clock.waits == [1] * 49


def test_the_time_that_the_reader_takes_is_not_the_hubs(server: LocalHub, clock: Clock) -> None:
    server.add(Drop(after_bytes=1000, path=FILE))
    with Hub(REPO) as hub:
        pieces = []
        for piece in hub.stream(file_of(hub), 0, 5000):
            pieces.append(piece)
            clock.now += 10_000
    assert b"".join(pieces) == CONTENT[:5000]


def test_a_hub_that_nothing_connects_to_is_given_up_soon(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        said = refusal()
    assert "refused" in said
    assert clock.now <= 20


def test_a_name_that_does_not_resolve_is_given_up_soon(
    server: LocalHub, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "Name or service not known" in refusal()
    assert clock.now <= 20


def test_a_hub_that_answered_before_is_waited_for(folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalHub({REPO: folder}) as server:
        server.only_one(monkeypatch)
        hub = Hub(REPO)
        file = file_of(hub)
    with hub, pytest.raises(HubUnreachable):
        hub.read(file, 0, 10)
    assert clock.now > 200


def test_closing_ends_the_waits_of_other_threads(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry.RetryPolicy, "pause", real_pause)
    server.add(Status(code=503, path=FILE, times=None, retry_after="600"))
    told: queue.Queue[Event] = queue.Queue()
    hub = Hub(REPO, report=told.put)
    file = file_of(hub)
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(hub.read, file, 0, 10)
        told.get()
        hub.close()
        with pytest.raises(HubUnreachable, match="closed"):
            reading.result()


# What does not pass


def test_a_dataset_file_or_revision_that_is_not_there(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"missing.bin is not in dataset {REPO}" in refusal(path="missing.bin")
    assert f"dataset {REPO} has no revision v7" in refusal(revision="v7")
    with Hub(REPO) as hub, pytest.raises(UserError, match="folder samples is not in dataset"):
        hub.files("samples")
    for token in (None, TOKEN):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with Hub("owner/missing") as hub, pytest.raises(UserError, match="there is no dataset owner/missing") as caught:
            hub.files()
        assert ("set HF_TOKEN" in str(caught.value)) == (token is None)


def test_a_commit_that_is_gone(server: LocalHub, tmp_path: Path) -> None:
    with Hub(REPO) as hub:
        file = file_of(hub)
        server.replace(REPO, tmp_path, keep_old=False)
        with pytest.raises(UserError, match="its history was rewritten; start anew"):
            hub.read(file, 0, 10)


def test_a_gated_dataset(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.gated.add(REPO)
    said = refusal()
    assert f"accept its terms on {server.endpoint}/datasets/{REPO}" in said
    assert "set HF_TOKEN" in said
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "with the account of your token" in refusal()
    server.gated.clear()
    assert read_all() == CONTENT


def redirected_to(host: str, times: int | None = None) -> Status:
    location = f"{host}/datasets/{REPO}/resolve/main/{quote(FILE)}"
    return Status(code=307, headers={"Location": location}, path=FILE, times=times)


def test_a_gated_dataset_behind_a_mirror(server: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror lists the dataset and redirects to the hub for its files."""
    with LocalHub({REPO: server.repos[REPO].folders[server.commit(REPO)]}) as hub:
        hub.gated.add(REPO)
        server.add(redirected_to(hub.endpoint))
        assert f"is gated: accept its terms on {hub.endpoint}/datasets/{REPO}, then set HF_TOKEN" in refusal()
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        said = refusal()
        assert f"{server.endpoint} redirects to {hub.endpoint}, which does not get your token" in said
        assert f"set HF_ENDPOINT={hub.endpoint}" in said
        hub.gated.clear()
        assert read_all() == CONTENT


@pytest.mark.parametrize("code", [401, 403])
def test_another_hosts_refusal_that_does_not_pass_names_the_mend(redirecting: LocalHub, code: int) -> None:
    redirecting.add(Status(code=code, path="/cdn/", times=None))
    said = refusal()
    assert f"is refused 4 times with status {code}" in said
    assert "if the dataset is gated, accept its terms on" in said
    assert len(redirecting.seen("/cdn/")) == 4


def test_a_gated_dataset_on_a_mirror_without_error_codes(server: LocalHub) -> None:
    restricted = {"X-Error-Message": f"Access to dataset {REPO} is restricted and you are not in the authorized list"}
    server.add(Status(code=403, path=FILE, headers=restricted, times=None))
    assert f"is gated: accept its terms on {server.endpoint}" in refusal()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ALL_PROXY", "socks5://me:secret@localhost:1", "ALL_PROXY is a SOCKS proxy"),
        ("ALL_PROXY", "socks4://me:secret@localhost:1", "ALL_PROXY is no address of a proxy"),
        ("https_proxy", "htp://me:secret@localhost:1", "https_proxy is no address of a proxy"),
        ("HTTPS_PROXY", "http://localhost:secret", "HTTPS_PROXY is no address of a proxy"),
        ("SSL_CERT_FILE", "/no/such/file", "SSL_CERT_FILE (/no/such/file) can't be read: No such file or directory"),
        ("SSL_CERT_FILE", __file__, f"SSL_CERT_FILE ({__file__}) can't be read"),
        ("HF_ENDPOINT", "https://localhost:secret", "HF_ENDPOINT is not an address"),
    ],
)
def test_an_environment_that_no_client_can_be_made_with(
    server: LocalHub, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv(variable, value)
    message = refusal()
    assert message.startswith(said)
    assert "secret" not in message and "\n" not in message


def test_a_proxy_that_can_not_be_reached_is_named(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "UNCONNECTED_SECONDS", 0.0)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert "(through the proxy of HTTP_PROXY)" in refusal()


def test_a_token_that_is_refused(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.token = "hf_another"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "refuses your token: set HF_TOKEN" in refusal()


def test_a_token_that_can_not_be_sent(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\u00e9")
    assert "HF_TOKEN holds characters" in refusal()
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\t{TOKEN}")
    assert "HF_TOKEN holds characters" in refusal()


def test_a_token_file_that_can_not_be_read(server: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path))
    assert f"the token file {tmp_path} can't be read (Is a directory)" in refusal()
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert "can't be read (it is not text)" in refusal()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert read_all() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1, 2 * len(CONTENT)])
def test_a_file_of_another_size_than_listed(server: LocalHub, size: int) -> None:
    with Hub(REPO) as hub, pytest.raises(UserError, match="was listed with") as caught:
        hub.read(HubFile(FILE, size, None), size - 10, size)
    assert "it changed on the hub" in str(caught.value)


def test_other_refusals_are_told_as_they_are(server: LocalHub) -> None:
    server.add(Status(code=451, path=FILE, times=None))
    assert "status 451" in refusal()


def test_the_hubs_own_words_for_a_refusal_are_shown(server: LocalHub) -> None:
    disabled = {"X-Error-Message": "Access to this resource\tis disabled."}
    server.add(Status(code=403, path="/revision/", headers=disabled, times=None))
    assert f"status 403 (Access to this resource is disabled.) for dataset {REPO}: see" in refusal()


@pytest.mark.parametrize("page", ['{"ok": true}', "[]", '"x"', '{"sha": null}'])
@pytest.mark.parametrize("path", ["/revision/", "/tree/"])
def test_a_server_that_answers_in_json_and_is_no_hub(server: LocalHub, page: str, path: str) -> None:
    if (page, path) == ("[]", "/tree/"):
        return  # an empty repository
    server.add(Status(code=200, page=page, path=path, times=None))
    with (
        pytest.raises(UserError, match=f"{server.endpoint} does not answer as a Hugging Face hub does"),
        Hub(REPO) as hub,
    ):
        hub.files()


def test_an_address_with_a_path_is_shown_whole_and_asked(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{server.endpoint}/mirror/")
    assert f"on {server.endpoint}/mirror, or it is private" in (said := refusal())
    assert f"check that {server.endpoint}/mirror is a Hugging Face hub (HF_ENDPOINT)" in said
    assert server.log[0].path.startswith("/mirror/api/datasets/")
    monkeypatch.setenv("HF_ENDPOINT", f"{server.endpoint}/?a=b")
    assert "HF_ENDPOINT is not an address" in refusal()


def test_offline_mode_and_an_address_that_is_none(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "huggingface.co")
    assert "HF_ENDPOINT is not an address" in refusal()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    assert "HF_HUB_OFFLINE is set" in refusal()
    assert server.log == []


def test_a_user_and_password_in_the_address_are_not_shown(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint.replace("http://", f"http://me:{TOKEN}@"))
    assert server.endpoint in refusal(path="missing.bin")
