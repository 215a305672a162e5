"""The folder of a set that is being prepared: who may write there, what is tidied up at the end, and the disk's refusals."""

import errno
import glob
import shutil
from pathlib import Path
from typing import Any

from nanofit.common.durable import create
from nanofit.common.errors import UserError
from nanofit.data.shards.existing import existing_set
from nanofit.data.shards.manifest import MANIFEST_NAME, Manifest, append_line, is_prepared, read_manifest

PREPARING_NAME = ".preparing"
"""Marks a folder in which nanofit is writing shards: what lies there then is ours."""

SNAPSHOT_NAME = ".unfinished.json"
"""What is known of the shards that are still open."""


def set_in(folder: Path) -> Manifest:
    """The set of shards in `folder`, nanofit's or another program's. Raises UserError when there is none."""
    existing = None if is_prepared(folder) else existing_set(folder)
    return existing.manifest() if existing is not None else read_manifest(folder)


class DiskFull(UserError):
    """The disk is full. Finished shards stay, and the same request continues once there is space."""


def disk_refusal(folder: Path, error: OSError) -> UserError:
    """The error for a user where the disk refused to write."""
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else UserError
    return kind(
        f"{folder} can't be written: {error.strerror or error}; free some space and give the same command again, "
        "or give another folder; what is finished stays"
    )


def close(folder: Path, name: str, closing: dict[str, Any]) -> None:
    """Appends the manifest's closing line and removes temporary files."""
    append_line(folder, {"closed": True} | closing)
    for leftover in _ours(folder, name, "*.tmp"):
        leftover.unlink(missing_ok=True)
    for leftover in (SNAPSHOT_NAME, PREPARING_NAME):
        (folder / leftover).unlink(missing_ok=True)


def claim(folder: Path, name: str) -> None:
    """Marks the folder as ours to write. Raises UserError for shards that nanofit did not begin: they may be somebody's only
    copy."""
    marker = folder / PREPARING_NAME
    files = _ours(folder, name, "*.bin")
    if files and not marker.exists() and not is_prepared(folder):
        raise UserError(
            f"{folder} holds {files[0].name} and no {MANIFEST_NAME}, so nobody knows what it is: put the manifest back if it "
            "was lost, or move these files away, or give another folder"
        )
    if is_prepared(folder) and not read_manifest(folder).made_of:
        (folder / MANIFEST_NAME).unlink()  # an unfinished set of a nanofit that could not resume
    create(marker).close()


def _ours(folder: Path, name: str, ending: str) -> list[Path]:
    """Files in `folder` with the names of a set's shards."""
    return [file for split in ("train", "val") for file in folder.glob(f"{glob.escape(name)}_{split}_??????{ending}")]


def require_space(folder: Path, needed_bytes: float, source_bytes: int) -> None:
    """Raises UserError when shards of `needed_bytes` don't fit on the disk; a source below 1 MiB is not checked."""
    free = shutil.disk_usage(folder).free
    if source_bytes > 2**20 and needed_bytes > free:
        raise UserError(
            f"{folder} has {free / 1e6:,.0f} MB free and the shards need about {needed_bytes / 1e6:,.0f} MB: "
            "free some space, give another --out, or fewer --tokens"
        )
