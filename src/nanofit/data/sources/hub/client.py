"""A dataset's repository on the Hugging Face hub, read by ranges: files listed with size and sha256, bytes as asked for.

The revision is pinned to a commit. A request that fails for a reason that passes is tried again, with waits that grow and
are drawn at random, and goes on at the byte where the last one broke. Token, address and proxies come from where
huggingface_hub takes them (HF_TOKEN or the file of `hf auth login`, HF_ENDPOINT, HTTPS_PROXY). The requests are our own, since
those of huggingface_hub's HfApi wait for ever on a connection that stalls, and give up after five tries.
"""

import re
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote, urlsplit

from nanofit.common.errors import UserError
from nanofit.common.events import Report, silent
from nanofit.data.sources.hub import environment
from nanofit.data.sources.hub.retry import Failure, HubUnreachable, Retry, RetryPolicy, asked_wait

__all__ = ["Hub", "HubFile", "HubUnreachable"]

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""No byte for so long counts as a broken connection."""

SKIPPED_BYTES = 8 * 2**20
"""Where a server ignores a Range, up to so many bytes before it are read and thrown away."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. `sha256` is None where the hub tells none: small files that lie in git itself."""

    path: str
    size: int
    sha256: str | None


class _NoSuchFile(UserError):
    """The commit has no file or folder of that path."""


class Hub:
    """The dataset `repo` at `revision`. Any number of threads may use it.

    Every method raises UserError for what the hub refuses and HubUnreachable after `patience_seconds` without a new byte.
    A hub that can't be connected to from the start is given up after 20 seconds.
    """

    def __init__(
        self, repo: str, revision: str = "main", *, report: Report = silent, patience_seconds: float = 300.0
    ) -> None:
        import httpx2
        from huggingface_hub import constants

        self.repo = repo
        self.downloaded_bytes = 0
        self._revision = revision
        self._commit = revision if re.fullmatch(r"[0-9a-f]{40}", revision) else None
        self._lock = threading.Lock()
        self._asking_commit = threading.Lock()
        self._endpoint, self.host = environment.endpoint()
        if constants.is_offline_mode():
            raise UserError(f"HF_HUB_OFFLINE is set, so dataset {repo} is not asked for: unset it, or give local data")
        self._headers = environment.headers()
        self._policy = RetryPolicy(self.host, repo, patience_seconds, report)
        self._client = environment.client(httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends connections and waits; who still reads gets an error."""
        self._policy.end()
        self._client.close()

    @property
    def commit(self) -> str:
        """The commit that is read, 40 hexadecimal digits. Asked for once, so the same as long as this object lives."""
        with self._asking_commit:
            if self._commit is None:
                url = f"{self._endpoint}/api/datasets/{quote(self.repo)}/revision/{quote(self._revision, safe='')}"
                information, _ = self._json(url, f"dataset {self.repo}")
                if not isinstance(information, dict) or not isinstance(information.get("sha"), str):
                    raise self._not_a_hub()
                self._commit = information["sha"]
            return self._commit

    def files(self, under: str = "") -> list[HubFile]:
        """All files in folder `under` and its folders, sorted by path."""
        found = []
        path = f"/{quote(under.strip('/'), safe='')}" if under else ""
        tree = f"{self._endpoint}/api/datasets/{quote(self.repo)}/tree/{self.commit}{path}"
        query: str | None = "recursive=true"
        while query is not None:
            entries, query = self._json(f"{tree}?{query}", f"folder {under}" if under else "the list of files")
            try:
                for entry in entries:
                    if entry["type"] == "file":
                        found.append(HubFile(entry["path"], entry["size"], (entry.get("lfs") or {}).get("oid")))
            except (AttributeError, KeyError, TypeError):
                raise self._not_a_hub() from None
        return sorted(found, key=lambda file: file.path)

    def text(self, path: str) -> str | None:
        """The text of a small file, None where there is none of that name."""
        try:
            return self._whole(
                self._url(path), path, lambda answer: answer.content.decode("utf-8-sig", errors="replace")
            )
        except _NoSuchFile:
            return None

    def _url(self, path: str) -> str:
        """The address of a file's content at this commit."""
        return f"{self._endpoint}/datasets/{quote(self.repo)}/resolve/{self.commit}/{quote(path)}"

    def read(self, file: HubFile, start: int, end: int) -> bytes:
        """Bytes [start, end) of the file, exactly."""
        return b"".join(self.stream(file, start, end))

    def stream(self, file: HubFile, start: int, end: int) -> Generator[bytes, None, None]:
        """Bytes [start, end) of the file in pieces as they come, each byte once, however often a connection breaks."""
        assert 0 <= start <= end <= file.size, f"{file.path} has no bytes {start} to {end}"
        position = start
        retry = Retry(self._policy, file.path)
        while position < end:
            try:
                for piece in self._pieces(file, position, end):
                    position += len(piece)
                    yield piece
                    # Only now: the time that the reader took is not the hub's.
                    retry.progressed()
                if position < end:
                    raise Failure("the answer ended early")
            except Failure as failure:
                retry.failed(failure)

    def _pieces(self, file: HubFile, start: int, end: int) -> Iterator[bytes]:
        """What one request gives of [start, end): all of it, or less and then Failure or an early end."""
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with self._answer(self._url(file.path), file.path, headers) as response:
            if response.status_code == 416:
                raise self._changed(file)
            skip = self._offset_in_answer(response, file, start)
            left = end - start
            for received in response.iter_raw():
                with self._lock:
                    self.downloaded_bytes += len(received)
                piece = received[skip : skip + left]
                skip = max(skip - len(received), 0)
                left -= len(piece)
                if piece:
                    yield piece
                # Else to the end of the answer, so that the connection can be used again.
                if not left and response.status_code == 200 and end < file.size:
                    return

    def _offset_in_answer(self, response: "httpx2.Response", file: HubFile, start: int) -> int:
        """How many bytes come before byte `start` of the file; checks that it is the file that was listed."""
        if response.status_code == 206:
            content_range = response.headers.get("Content-Range", "")
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
            if match is None or int(match[1]) != start:
                raise Failure(f"bytes {start}- were asked for and '{content_range}' came")
            size = match[2]
        else:
            size = response.headers.get("Content-Length", "*")
        if size not in ("*", str(file.size)):
            raise self._changed(file)
        if response.status_code == 206:
            return 0
        if start > SKIPPED_BYTES:
            raise UserError(
                f"{self.host} or a proxy before it gives whole files only, not the ranges that are asked for: "
                "set HF_ENDPOINT to a hub that does, or download the files and give their folder as the source"
            )
        return start

    def _changed(self, file: HubFile) -> UserError:
        return UserError(
            f"{file.path} of dataset {self.repo} was listed with {file.size:,} bytes and has another size now: "
            "it changed on the hub; start anew, in another folder"
        )

    def _not_a_hub(self) -> UserError:
        return UserError(f"{self.host} does not answer as a Hugging Face hub does: check HF_ENDPOINT, or unset it")

    def _json(self, url: str, what: str) -> tuple[Any, str | None]:
        """A JSON answer, and the query of the page that follows it."""

        def parsed(answer: "httpx2.Response") -> tuple[Any, str | None]:
            try:
                content = answer.json()
            except ValueError:
                raise Failure("an answer that is not a hub's (a login page of the network?)") from None
            # Only the query of the next page's address: that of a mirror's next page lies on the mirror.
            following = answer.links.get("next", {}).get("url")
            return content, None if following is None else urlsplit(following).query

        return self._whole(url, what, parsed)

    def _whole(self, url: str, what: str, parse: "Callable[[httpx2.Response], T]") -> T:
        """What `parse` makes of an answer that is read whole. It may raise Failure."""
        retry = Retry(self._policy, what)
        while True:
            try:
                with self._answer(url, what, {}) as response:
                    response.read()
                    with self._lock:
                        self.downloaded_bytes += len(response.content)
                    return parse(response)
            except Failure as failure:
                retry.failed(failure)

    @contextmanager
    def _answer(self, url: str, what: str, headers: dict[str, str]) -> "Iterator[httpx2.Response]":
        """A good answer, or that there is no such range; its body is not read yet. Raises Failure, UserError."""
        import httpx2

        try:
            with self._client.stream("GET", url, headers=self._headers | headers) as response:
                self._policy.heard = True
                if response.status_code not in (200, 206, 416):
                    self._refuse(response, what)
                yield response
        except httpx2.RequestError as error:
            unconnected = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError)
            proxies = environment.set_variables(environment.PROXY_VARIABLES) if unconnected else []
            through = f" (through the proxy of {', '.join(proxies)})" if proxies else ""
            raise Failure(_reason(error) + through, unconnected=unconnected) from error

    def _refuse(self, response: "httpx2.Response", what: str) -> None:
        """Raises what an error status means: Failure when it may pass, else UserError with the mend."""
        status = response.status_code
        code = response.headers.get("X-Error-Code", "")
        # Another host, where a redirect led, knows nothing of repositories, unless a mirror redirects to the hub itself;
        # and its addresses hold for a time only.
        elsewhere = bool(response.history) and response.url.netloc != response.history[0].url.netloc
        if status in (408, 429) or status >= 500 or (elsewhere and not code):
            raise Failure(
                f"status {status} ({response.reason_phrase})",
                asked_wait=asked_wait(response.status_code, response.headers),
                mend=self._access_mend(response, elsewhere) if status in (401, 403) else "",
            )
        has_token = "Authorization" in self._headers
        message = response.headers.get("X-Error-Message", "").lower()
        if code == "GatedRepo" or (status in (401, 403) and not code and "restricted" in message):
            raise UserError(f"dataset {self.repo} is gated: {self._access_mend(response, elsewhere)}")
        if "invalid credentials" in message or (status == 401 and has_token):
            raise UserError(
                f"{self.host} refuses your token: set HF_TOKEN to one from {self.host}/settings/tokens, or unset it "
                "(and `hf auth logout`) for public datasets"
            )
        if code == "RevisionNotFound":
            if self._commit is None:
                raise UserError(f"dataset {self.repo} has no revision {self._revision}: give a branch, tag or commit")
            raise UserError(
                f"commit {self._commit} of dataset {self.repo} is no longer on the hub: its history was rewritten; "
                "start anew from the present state, in another folder"
            )
        if code == "EntryNotFound":
            raise _NoSuchFile(f"{what} is not in dataset {self.repo} at {self._revision}: see {self._page()}")
        if code == "RepoNotFound" or status in (401, 404):
            raise UserError(
                f"there is no dataset {self.repo} on {self.host}, or it is private: check the name"
                + ("" if has_token else "; for a private one set HF_TOKEN")
                + ("" if code or status == 401 else f"; and check that {self.host} is a Hugging Face hub (HF_ENDPOINT)")
            )
        reason = " ".join(response.headers.get("X-Error-Message", "").split()) or response.reason_phrase
        where = "" if self.repo in what else f" of dataset {self.repo}"
        raise UserError(f"{self.host} answers status {status} ({reason}) for {what}{where}: see {self._page()}")

    def _access_mend(self, response: "httpx2.Response", elsewhere: bool) -> str:
        """How to be let in to what asks for a login; `elsewhere`: the hub that asks is the one that ours redirects to."""
        host = f"{response.url.scheme}://{response.url.netloc.decode()}" if elsewhere else self.host
        page = f"{host}/datasets/{self.repo}"
        if "Authorization" not in self._headers:
            return f"accept its terms on {page}, then set HF_TOKEN to a token of that account"
        if elsewhere:  # a redirect to another host leaves the token behind
            return f"{self.host} redirects to {host}, which does not get your token: set HF_ENDPOINT={host}"
        return f"accept its terms on {page}, with the account of your token"

    def _page(self) -> str:
        return f"{self.host}/datasets/{self.repo}/tree/{quote(self._commit or self._revision)}"


def _reason(error: Exception) -> str:
    """Why a request failed, in a few words on one line, without the request itself."""
    import httpx2

    if isinstance(error, httpx2.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:.0f} s"
    if isinstance(error, httpx2.TimeoutException):
        return f"no byte within {READ_SECONDS:.0f} s"
    if isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError | httpx2.WriteError):
        return "the connection broke"
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
