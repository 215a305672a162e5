"""A hub on this machine: folders served as dataset repositories, with the faults that a test asks for.

    with LocalHub({"HuggingFaceFW/fineweb": fineweb_repo(folder, {"sample/10BT/000_00000.parquet": texts})}) as hub:
        hub.only_one(monkeypatch)
        hub.add(Drop(after_bytes=1000, path="000_00000.parquet"))

In a process of its own, for benchmarks and trials: python tests/hub_server.py OWNER/NAME=FOLDER --mbit 50
It speaks what huggingface_hub and our own client ask of a dataset's repository: information, tree, HEAD and GET of files
with Range, the redirect to another host that holds the bytes. It writes nothing.
"""

import argparse
import base64
import hashlib
import json
import re
import select
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    import pytest

LFS_SUFFIXES = {".parquet", ".arrow", ".bin", ".gz", ".zst", ".zip", ".npy"}
LFS_BYTES = 10 * 2**20
"""The hub keeps files with these endings, and all larger ones, outside of git; only of those it knows the sha256."""

Host = Literal["hub", "cdn"]

PAGE_ENTRIES = 1000
PIECE_BYTES = 256 * 1024
SLOW_PIECE_BYTES = 16 * 1024


@dataclass(kw_only=True)
class Fault:
    """What goes wrong with requests whose path, unquoted, contains `path`.

    The first `skip` of those are answered well, then `times` go wrong (None: all), then all is well again.
    """

    path: str = ""
    skip: int = 0
    times: int | None = 1
    met: int = field(default=0, init=False)

    def strikes(self, path: str) -> bool:
        """Whether it happens to this request; to be asked once a request."""
        if self.path not in path:
            return False
        self.met += 1
        return self.met > self.skip and (self.times is None or self.met <= self.skip + self.times)


@dataclass(kw_only=True)
class Status(Fault):
    """This instead of the answer; `retry_after` as the header says it, in seconds or as a date. `page` is a body of HTML."""

    code: int
    retry_after: str | None = None
    error_code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    page: str | None = None

    def answer(self) -> "Answer":
        answer = refusal(self.code, self.error_code, f"status {self.code} on request")
        answer.headers.update(self.headers)
        if self.retry_after is not None:
            answer.headers["Retry-After"] = self.retry_after
        if self.page is None:
            return answer
        return Answer(self.code, answer.headers | {"Content-Type": "text/html"}, self.page.encode())


@dataclass(kw_only=True)
class Drop(Fault):
    """The connection ends after `after_bytes` of the body."""

    after_bytes: int


@dataclass(kw_only=True)
class Stall(Fault):
    """Nothing comes after `after_bytes` of the body, until the client goes."""

    after_bytes: int


@dataclass(kw_only=True)
class Corrupt(Fault):
    """The byte at `offset` of the file comes with all bits flipped; answers without that byte do not count."""

    offset: int


@dataclass(kw_only=True)
class WholeFile(Fault):
    """A Range request is answered by 200 and the whole file."""


@dataclass
class Seen:
    """One request and its answer. `range` is [start, end) as it was asked for, end None when open; `sent` counts the
    bytes of the body that were handed to the connection; `at` is in seconds since the hub began."""

    host: Host
    method: str
    path: str
    range: tuple[int, int | None] | None
    authorized: bool
    at: float
    status: int = 0
    sent: int = 0


@dataclass(frozen=True)
class FilePart:
    """Bytes [start, end) of a file, as a body."""

    file: Path
    start: int
    end: int


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes | FilePart = b""


@dataclass
class Repo:
    """A repository: the folder of every commit that is still served, and the one that `main` names."""

    main: str
    folders: dict[str, Path]


class Link:
    """A line that all connections share: bytes leave one after the other at the rate that it has at the time."""

    def __init__(self, bytes_per_second: float | None) -> None:
        self.bytes_per_second = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = 0.0

    def carry(self, count: int) -> None:
        """Returns when `count` more bytes have gone through."""
        if self.bytes_per_second is None:
            return
        with self._lock:
            now = time.monotonic()
            # A sleep ends late: what it missed, up to 20 ms, is caught up.
            self._free_at = max(self._free_at, now - 0.02) + count / self.bytes_per_second
            wait = self._free_at - now
        time.sleep(max(wait, 0.0))


class LocalHub:
    """Serves `repos`, a folder each, on 127.0.0.1 while it is entered.

    `bytes_per_second` is the rate of the one line that all answers share, and `latency_seconds` passes before every
    answer. With `token` any other one is refused. Files of a repository in `gated` are refused, with a token too. With
    `cdn`, LFS files are redirected to a second port, which must not see the token. `commits` fixes a commit's name, which
    else follows from the content. `link.bytes_per_second`, `latency_seconds`, `token`, `gated` and `page_entries` may be
    changed at any time; `log` has every request, `connections` counts how many were opened.
    """

    def __init__(
        self,
        repos: Mapping[str, Path],
        *,
        bytes_per_second: float | None = None,
        latency_seconds: float = 0.0,
        token: str | None = None,
        cdn: bool = False,
        port: int = 0,
        page_entries: int = PAGE_ENTRIES,
        commits: Mapping[str, str] | None = None,
    ) -> None:
        self.link = Link(bytes_per_second)
        self.latency_seconds = latency_seconds
        self.token = token
        self.gated: set[str] = set()
        self.page_entries = page_entries
        self.log: list[Seen] = []
        self.repos: dict[str, Repo] = {}
        self.connections = 0
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._hashes: dict[tuple[Path, int, int], str] = {}
        self._signature = uuid.uuid4().hex
        self._began = time.monotonic()
        self.closing = threading.Event()
        for repo, folder in repos.items():
            self.replace(repo, folder, commit=(commits or {}).get(repo))
        self._servers = [Server(self, "hub", port)]
        if cdn:
            self._servers.append(Server(self, "cdn", 0))
        self.endpoint = f"http://127.0.0.1:{self._servers[0].server_port}"
        self.cdn_endpoint = f"http://127.0.0.1:{self._servers[1].server_port}" if cdn else None

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), name="hub", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.end()

    # What tests ask for

    def add(self, *faults: Fault) -> None:
        """From now on these happen, each counting for itself."""
        with self._lock:
            self._faults.extend(faults)

    def heal(self) -> None:
        """No fault happens any more."""
        with self._lock:
            self._faults.clear()

    def only_one(self, monkeypatch: "pytest.MonkeyPatch") -> None:
        """Makes this the hub of the process, for clients and child processes that are made from now on: without a token, proxies, or
        what the user set for the real one."""
        from huggingface_hub import constants

        monkeypatch.setenv("HF_ENDPOINT", self.endpoint)
        monkeypatch.setenv("HF_TOKEN_PATH", "/nonexistent/token")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        unset = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
        for name in (*unset, "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)

    def commit(self, repo: str) -> str:
        """The commit that `main` of `repo` names: 40 hex digits."""
        return self.repos[repo].main

    def replace(self, repo: str, folder: Path, *, keep_old: bool = True, commit: str | None = None) -> str:
        """`main` of `repo` is now what lies in `folder`; older commits are served still, or gone. The new commit."""
        commit = commit or self._content_commit(folder)
        before = self.repos[repo].folders if keep_old and repo in self.repos else {}
        self.repos[repo] = Repo(commit, {**before, commit: folder})
        return commit

    @property
    def sent_bytes(self) -> int:
        """Bytes of bodies sent in all."""
        return sum(seen.sent for seen in list(self.log))

    def seen(self, path: str, method: str = "GET") -> list[Seen]:
        """The requests so far whose path contains `path`, in the order of their arrival."""
        return [seen for seen in list(self.log) if path in seen.path and seen.method == method]

    # What the handlers ask for

    def connected(self) -> None:
        with self._lock:
            self.connections += 1

    def begin(self, seen: Seen) -> None:
        seen.at -= self._began
        with self._lock:
            self.log.append(seen)

    def status_fault(self, path: str) -> Status | None:
        with self._lock:
            return next((it for it in self._faults if isinstance(it, Status) and it.strikes(path)), None)

    def body_faults(self, path: str, part: FilePart | None) -> list[Fault]:
        """The faults that this answer's body suffers."""
        with self._lock:
            return [
                fault
                for fault in self._faults
                if not isinstance(fault, Status | WholeFile)
                and (not isinstance(fault, Corrupt) or (part is not None and part.start <= fault.offset < part.end))
                and fault.strikes(path)
            ]

    def ignores_range(self, path: str) -> bool:
        with self._lock:
            return any(isinstance(fault, WholeFile) and fault.strikes(path) for fault in self._faults)

    def answer(self, host: Host, target: str, authorization: str | None, asked: str | None) -> Answer:
        """The answer without faults to a request for `target`, with the header Range as `asked`."""
        url = urlsplit(target)
        if host == "cdn":
            return self._cdn(url.path, url.query, asked)
        if authorization is not None and self.token is not None and authorization != f"Bearer {self.token}":
            return refusal(401, None, "Invalid credentials in Authorization header")
        api = re.fullmatch(r"/api/datasets/(.+?)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?", url.path)
        file = re.fullmatch(r"/datasets/([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)", url.path)
        if api is None and file is None:
            return refusal(404, None, "not an address of this hub")
        repo = unquote((api or file or [""])[1])
        if repo not in self.repos:
            return refusal(404 if authorization else 401, "RepoNotFound", "Repository not found")
        revision = unquote((api[3] or "main") if api else (file or [""] * 3)[2])
        commit = self.repos[repo].main if revision == "main" else revision
        if commit not in self.repos[repo].folders:
            return refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if api:
            if api[2] == "tree":
                return self._tree(repo, commit, unquote(api[4] or ""), parse_qs(url.query), url.path)
            return self._information(repo, commit)
        assert file is not None
        if repo in self.gated:
            return refusal(403 if authorization else 401, "GatedRepo", f"Access to dataset {repo} is restricted")
        return self._resolve(repo, commit, unquote(file[3]), asked)

    def _information(self, repo: str, commit: str) -> Answer:
        folder = self.repos[repo].folders[commit]
        siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in files_in(folder)]
        gated = "auto" if repo in self.gated else False
        facts = {"_id": "0", "id": repo, "author": repo.split("/")[0], "sha": commit, "private": False, "gated": gated}
        facts |= {"disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings}
        return as_json(facts)

    def _tree(self, repo: str, commit: str, under: str, query: dict[str, list[str]], url_path: str) -> Answer:
        root = self.repos[repo].folders[commit]
        if not (root / under).is_dir():
            return refusal(404, "EntryNotFound", f"{under} does not exist on {commit}")
        recursive = query.get("recursive", [""])[0].lower() in ("true", "1")
        paths = sorted((root / under).rglob("*") if recursive else (root / under).iterdir())
        first = int(base64.b64decode(query.get("cursor", ["MA=="])[0]))
        page = paths[first : first + self.page_entries]
        headers = {}
        if first + len(page) < len(paths):
            cursor = base64.b64encode(str(first + len(page)).encode()).decode()
            plain = {name: values[0] for name, values in query.items()}
            headers["Link"] = f'<{self.endpoint}{url_path}?{urlencode(plain | {"cursor": cursor})}>; rel="next"'
        return as_json([self._entry(root, path) for path in page], headers)

    def _entry(self, root: Path, path: Path) -> dict[str, object]:
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            return {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}
        size = path.stat().st_size
        entry: dict[str, object] = {"type": "file", "oid": self._git_oid(path), "size": size, "path": name}
        if is_lfs(path):
            entry["lfs"] = {"oid": self._sha256(path), "size": size, "pointerSize": len(self._pointer(path))}
        return entry

    def _resolve(self, repo: str, commit: str, path: str, asked: str | None) -> Answer:
        file = self.repos[repo].folders[commit] / path
        if not file.is_file():
            return refusal(404, "EntryNotFound", f"{path} does not exist on {commit}")
        headers = {"X-Repo-Commit": commit}
        if not is_lfs(file):
            return ranged(file, asked, headers | {"ETag": f'"{self._git_oid(file)}"'})
        etag = f'"{self._sha256(file)}"'
        headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(file.stat().st_size)}
        if self.cdn_endpoint is None:
            return ranged(file, asked, headers | {"ETag": etag})
        address = f"{self.cdn_endpoint}/cdn/{quote(repo)}/{commit}/{quote(path)}?Signature={self._signature}"
        return Answer(302, headers | {"Location": address}, b"Found. Redirecting")

    def _cdn(self, path: str, query: str, asked: str | None) -> Answer:
        address = re.fullmatch(r"/cdn/(.+)/([0-9a-f]{40})/(.+)", path)
        if address is None or parse_qs(query).get("Signature") != [self._signature]:
            return refusal(403, None, "Access denied")
        file = self.repos[unquote(address[1])].folders[address[2]] / unquote(address[3])
        return ranged(file, asked, {"ETag": f'"{self._sha256(file)}"'})

    # What is known of files

    def _content_commit(self, folder: Path) -> str:
        state = [(path.relative_to(folder).as_posix(), self._sha256(path)) for path in files_in(folder)]
        return hashlib.sha1(json.dumps(state).encode()).hexdigest()

    def _sha256(self, file: Path) -> str:
        stat = file.stat()
        key = (file, stat.st_size, stat.st_mtime_ns)
        if key not in self._hashes:
            with file.open("rb") as stream:
                self._hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        return self._hashes[key]

    def _pointer(self, file: Path) -> bytes:
        size = file.stat().st_size
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self._sha256(file)}\nsize {size}\n".encode()

    def _git_oid(self, file: Path) -> str:
        content = self._pointer(file) if is_lfs(file) else file.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def is_lfs(file: Path) -> bool:
    return file.suffix in LFS_SUFFIXES or file.stat().st_size > LFS_BYTES


def as_json(content: object, headers: dict[str, str] | None = None) -> Answer:
    body = json.dumps(content).encode()
    return Answer(200, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}, body)


def refusal(status: int, error_code: str | None, message: str) -> Answer:
    headers = {"Content-Type": "application/json; charset=utf-8", "X-Error-Message": message}
    if error_code is not None:
        headers["X-Error-Code"] = error_code
    return Answer(status, headers, json.dumps({"error": message}).encode())


def ranged(file: Path, asked: str | None, headers: dict[str, str]) -> Answer:
    """The file, or the one range of it that the header Range asks for."""
    size = file.stat().st_size
    headers = headers | {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    if asked is None:
        return Answer(200, headers, FilePart(file, 0, size))
    start, end = asked_range(asked, size)
    if start >= size:
        return Answer(416, headers | {"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Answer(206, headers, FilePart(file, start, end))


def asked_range(asked: str, size: int) -> tuple[int, int]:
    """[start, end) of a header `bytes=a-b`, `bytes=a-` or `bytes=-n`."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    assert match is not None, f"a Range that this hub does not read: {asked}"
    if not match[1]:
        return max(size - int(match[2]), 0), size
    return int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)


class Handler(BaseHTTPRequestHandler):
    """One connection, kept alive over its requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, hub: LocalHub, host: Host, *arguments: object) -> None:
        self.hub = hub
        self.host: Host = host
        hub.connected()
        super().__init__(*arguments)  # type: ignore[arg-type]

    def handle(self) -> None:
        # Clients go when they like.
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self._serve(self.command)

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on the terminal: the log is `LocalHub.log`."""

    def _serve(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        asked, authorization = self.headers.get("Range"), self.headers.get("Authorization")
        span = None
        if asked is not None and (match := re.fullmatch(r"bytes=(\d+)-(\d*)", asked)):
            span = (int(match[1]), int(match[2]) + 1 if match[2] else None)
        seen = Seen(self.host, method, path, span, authorization is not None, time.monotonic())
        self.hub.begin(seen)
        if self.hub.latency_seconds:
            time.sleep(self.hub.latency_seconds)
        if (fault := self.hub.status_fault(path)) is not None:
            answer = fault.answer()
        else:
            if asked is not None and self.hub.ignores_range(path):
                asked = None
            answer = self.hub.answer(self.host, self.path, authorization, asked)
        self._send(answer, seen)

    def _send(self, answer: Answer, seen: Seen) -> None:
        body = answer.body
        length = body.end - body.start if isinstance(body, FilePart) else len(body)
        seen.status = answer.status
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if seen.method == "HEAD":
            return
        part = body if isinstance(body, FilePart) else None
        faults = self.hub.body_faults(seen.path, part) if answer.status < 300 else []
        stops = [fault for fault in faults if isinstance(fault, Drop | Stall)]
        stop = min(stops, key=lambda fault: fault.after_bytes, default=None)
        flipped = {fault.offset - part.start for fault in faults if part is not None and isinstance(fault, Corrupt)}
        most = length if stop is None else min(stop.after_bytes, length)
        self._send_body(body, most, flipped, seen)
        if isinstance(stop, Stall):
            self._wait_for_the_client_to_go()
        if stop is not None:
            self.close_connection = True

    def _send_body(self, body: bytes | FilePart, most: int, flipped: set[int], seen: Seen) -> None:
        piece_bytes = PIECE_BYTES if self.hub.link.bytes_per_second is None else SLOW_PIECE_BYTES
        done = 0
        for piece in pieces(body, most, piece_bytes):
            for offset in flipped:
                if done <= offset < done + len(piece):
                    piece[offset - done] ^= 0xFF
            self.hub.link.carry(len(piece))
            done += len(piece)
            # Before it is sent, so that who has the bytes finds them counted.
            seen.sent += len(piece)
            self.connection.sendall(piece)

    def _wait_for_the_client_to_go(self) -> None:
        while not self.hub.closing.is_set():
            if select.select([self.connection], [], [], 0.05)[0]:
                return


def pieces(body: bytes | FilePart, most: int, piece_bytes: int) -> Iterator[bytearray]:
    """The first `most` bytes of a body."""
    if isinstance(body, bytes):
        for start in range(0, most, piece_bytes):
            yield bytearray(body[start : min(start + piece_bytes, most)])
        return
    with body.file.open("rb") as stream:
        stream.seek(body.start)
        while most:
            piece = bytearray(stream.read(min(piece_bytes, most)))
            assert piece, f"{body.file} became shorter while it was served"
            most -= len(piece)
            yield piece


class Server(ThreadingHTTPServer):
    """A port; `end` closes it with all its connections and waits for their threads."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, hub: LocalHub, host: Host, port: int) -> None:
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), lambda *connection: Handler(hub, host, *connection))

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        with self._connections_lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


def fineweb_repo(
    folder: Path,
    files: Mapping[str, Iterable[str]],
    *,
    rows_per_group: int = 1000,
    compression: str = "zstd",
    footer_padding: int = 0,
) -> Path:
    """`folder` with parquet files of FineWeb's nine columns, made of the texts of each path. Ids are unique.

    `footer_padding` bytes are added to each footer: those of real files are about 3 MB.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["text", "id", "dump", "url", "date", "file_path", "language"]
    fields = [(name, pa.string()) for name in names]
    schema = pa.schema([*fields, ("language_score", pa.float64()), ("token_count", pa.int64())])
    for path, texts in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(file, schema, compression=compression) as writer:
            rows = enumerate(texts)
            while group := list(islice(rows, rows_per_group)):
                writer.write_table(pa.Table.from_pylist([fineweb_row(path, *row) for row in group], schema))
            if footer_padding:
                writer.add_key_value_metadata({"padding": "." * footer_padding})
    return folder


def fineweb_row(path: str, index: int, text: str) -> dict[str, object]:
    return {
        "text": text,
        "id": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{path}#{index}')}>",
        "dump": "CC-MAIN-2023-14",
        "url": f"http://example.org/{path}/{index}",
        "date": "2023-03-20T09:12:33Z",
        "file_path": f"s3://commoncrawl/{path}.warc.gz",
        "language": "en",
        "language_score": 0.97,
        "token_count": len(text) // 4,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Serves folders as dataset repositories of a hub, until it is ended.")
    parser.add_argument("repos", nargs="+", metavar="OWNER/NAME=FOLDER")
    parser.add_argument("--mbit", type=float, help="rate of the line that all connections share, in Mbit/s")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before every answer")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cdn", action="store_true", help="redirect LFS files to a second port")
    arguments = parser.parse_args()
    pairs = (item.partition("=") for item in arguments.repos)
    repos = {repo: Path(folder) for repo, _, folder in pairs}
    rate = None if arguments.mbit is None else arguments.mbit * 1e6 / 8
    latency = arguments.latency_ms / 1000
    with LocalHub(repos, bytes_per_second=rate, latency_seconds=latency, cdn=arguments.cdn, port=arguments.port) as hub:
        print(hub.endpoint, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        print(f"{len(hub.log)} requests, {hub.sent_bytes:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
