"""Files that survive: a crash at any instant leaves the old content or the new one, and nothing outside the folder is touched.

A file is written under a temporary name, put on disk, renamed, and the folder is put on disk after it. Temporary names can be
guessed, so a leftover there is removed and the file is created exclusively: a symbolic link planted under such a name is never
followed. Everything here raises OSError.
"""

import errno
import hashlib
import json
import os
import shutil
import stat
from io import FileIO
from pathlib import Path
from typing import IO, Any, BinaryIO


def temporary(file: Path) -> Path:
    """The name under which `file` is written before it is renamed; in the same folder, so that the rename is atomic."""
    return file.with_name(f"{file.name}.tmp")


def write_file(file: Path, content: str | bytes) -> None:
    """Replaces the content of `file`, whole or not at all, and puts it on disk. Text is written as UTF-8."""
    part = temporary(file)
    try:
        with create(part) as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            sync(stream)
        publish(part, file)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def create(file: Path) -> BinaryIO:
    """Opens a new file for writing and reading; what a process that died left under its name is removed first."""
    file.unlink(missing_ok=True)
    return file.open("x+b")


def require_regular(file: Path) -> Path:
    """`file`, if it is a regular file or a link to one. Raises OSError for anything else, before it is opened: a pipe would wait for
    who writes it, and a device may never end."""
    mode = file.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if not stat.S_ISREG(mode):
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise OSError(errno.EINVAL, f"it is {kind}; give a regular file", str(file))
    return file


def reopen(file: Path) -> BinaryIO:
    """Opens a file that an earlier process left unfinished, for writing and reading, at its beginning. Only a regular file with
    no other name is opened: what else stands there was planted, or is shared with a copy."""
    no_follow = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
    stream = open(file, "r+b", opener=lambda path, flags: os.open(path, flags | no_follow))  # noqa: SIM115
    status = os.fstat(stream.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        stream.close()
        raise OSError(errno.EMLINK, "not a file of its own", str(file))
    return stream


def reopen_or_create(file: Path) -> BinaryIO:
    """Opens an unfinished file at its end, to write on; a new one where there is none that may be reopened."""
    try:
        stream = reopen(file)
    except OSError:
        return create(file)
    stream.seek(0, os.SEEK_END)
    return stream


class JsonLines:
    """A file of JSON objects, one per line, that only grows. Opening it cuts off a last line that a crash left unfinished, so that
    what is appended begins a line of its own."""

    def __init__(self, file: Path, format_version: int) -> None:
        self._format_version = format_version
        if not file.exists():
            file.touch()
            sync_folder(file.parent)
        # Unbuffered: what a full disk refuses must not be tried again by the truncation, or when the file is closed.
        self._stream = file.open("r+b", buffering=0)
        self._end = _whole_lines(self._stream)
        self._stream.truncate(self._end)

    def append(self, line: dict[str, Any], durable: bool = False) -> None:
        """Writes one line; `durable` puts it on disk before returning. When the disk refuses, nothing of the line stays."""
        rest = memoryview((json.dumps({"format_version": self._format_version} | line) + "\n").encode())
        end = self._end + len(rest)
        try:
            self._stream.seek(self._end)
            while rest:
                rest = rest[self._stream.write(rest) :]
            if durable:
                os.fsync(self._stream.fileno())
        except OSError:
            self._stream.truncate(self._end)
            raise
        self._end = end

    def close(self) -> None:
        self._stream.close()


def _whole_lines(stream: FileIO) -> int:
    """The length of the file up to its last newline."""
    end = stream.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(end - 4096, 0)
        stream.seek(begin)
        newline = stream.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def json_sha256(document: dict[str, Any]) -> str:
    """The sha256 of a JSON document, whatever its layout: kept in the document's own file, it makes that file check itself."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def is_plain_name(name: object) -> bool:
    """Whether `name` is the name of a file in whatever folder it is joined to: not a path, and not the folder or its parent."""
    return isinstance(name, str) and Path(name).name == name and name not in ("", "..") and "\0" not in name


def sync(stream: IO[bytes]) -> None:
    """Puts the content of an open file on disk."""
    stream.flush()
    os.fsync(stream.fileno())


def publish(part: Path, file: Path) -> None:
    """Gives `part`, whose content is on disk, the name `file`, and puts the name on disk."""
    part.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Puts the names in `folder` on disk, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Removes what stands at `path`, if anything: a file, a symbolic link but not its target, a folder with its content."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Makes a folder for temporary files, unless it is there; a symbolic link in its place is removed, not followed."""
    if folder.is_symlink():
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)
