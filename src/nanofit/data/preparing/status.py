"""The figures of a set of shards, from its manifest and file sizes alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanofit.common.locks import holder, is_held
from nanofit.data.preparing.set_folder import PREPARING_NAME, set_in
from nanofit.data.shards.manifest import Manifest, ShardLine, Split, is_prepared
from nanofit.data.shards.manifest_line import HEADER_BYTES
from nanofit.data.shards.shard_files import starts_file

FORMAT_VERSION = 1
"""Of a status document."""


@dataclass(frozen=True)
class Status:
    """A set of shards, perhaps unfinished. `preparing_process`: pid of the process that holds the folder, `?` if unknown, None if
    none does."""

    manifest: Manifest
    preparing_process: str | None

    def json(self) -> dict[str, Any]:
        """The fields of `nanofit data status --json`; unknown ones are None."""
        manifest, made_of = self.manifest, self.manifest.made_of
        unconfirmed = manifest.unconfirmed()
        closing = manifest.closing
        return {
            "format_version": FORMAT_VERSION,
            "folder": str(manifest.folder),
            "complete": closing is not None,
            "all_of_source": manifest.is_final if closing is not None else None,
            "source": manifest.shards[0].source if manifest.shards else None,
            "spec": made_of.get("spec"),
            "revision": made_of.get("commit"),
            "files": made_of.get("files"),
            "tokenizer": manifest.shards[0].tokenizer if manifest.shards else made_of.get("tokenizer"),
            "engines": list(dict.fromkeys(line.engine for line in manifest.shards if line.engine)),
            "validation": {"text": made_of.get("validation"), "comparable": made_of.get("comparable")},
            **{split: _figures(manifest, split) for split in ("train", "val")},
            "unconfirmed": {
                "shards": len(unconfirmed),
                "tokens": sum(line.tokens for line in unconfirmed),
                "files": sorted({file for line in unconfirmed for file in line.files} - manifest.confirmed),
            },
            "replaced_documents": closing.get("replaced_documents", 0) if closing is not None else None,
            "preparing_process": _pid(self.preparing_process),
        }


def status_of(folder: Path) -> Status:
    """The status of `folder`. Raises UserError for a folder in which no set was begun."""
    process = holder(folder) if is_held(folder) else None
    is_begun = (folder / PREPARING_NAME).exists() or process is not None
    if is_begun and not is_prepared(folder):
        return Status(Manifest(folder, (), None), process)
    return Status(set_in(folder), process)


def _figures(manifest: Manifest, split: Split) -> dict[str, int]:
    return {
        "shards": len(manifest.of(split)),
        "tokens": manifest.tokens(split),
        "documents": manifest.documents(split),
        "text_bytes": manifest.text_bytes(split),
        "bytes_on_disk": sum(_bytes_on_disk(manifest.folder, line) for line in manifest.of(split)),
    }


def _bytes_on_disk(folder: Path, line: ShardLine) -> int:
    """Of the shard and its sidecar; a file that another program wrote may hold tokens of the other split, too."""
    files = (folder / line.file, starts_file(folder / line.file))
    shard, sidecar = (file.stat().st_size if file.exists() else 0 for file in files)
    return min(shard, HEADER_BYTES + 2 * line.tokens) + sidecar


def _pid(process: str | None) -> int | None:
    return int(process) if process is not None and process.isdigit() else None
