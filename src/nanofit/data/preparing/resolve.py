"""What a source's name stands for, and in which folder its shards lie: found without a network and without reading text.

`plan`, `train`, `data prepare` and `probe` resolve sources here, so they accept the same names and refuse the others in the
same words. How much text a source holds is in `source_facts.py`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nanofit.common.errors import UserError
from nanofit.config.nanogpt_data import holds_files_of_tokens
from nanofit.data.shards.manifest import Manifest, is_prepared, read_manifest
from nanofit.data.sources.hub.names import HubName, hub_name
from nanofit.data.sources.local.kinds import ENDINGS_BEFORE_MARKUP
from nanofit.data.sources.local.sources import open_source
from nanofit.data.sources.unknown_names import nothing_named

if TYPE_CHECKING:
    from nanofit.data.shards.existing import ExistingSet
    from nanofit.data.sources.documents import Source
    from nanofit.data.sources.local.mixing import LocalSource


@dataclass(frozen=True)
class Request:
    """Which shards to prepare.

    `val_tokens`: length of the validation split. `most_tokens`: tokens to prepare, None for the whole source; of the hub they
    are training tokens, of local text those of both splits. `folder`: where the shards go, None for the source's own folder
    under data/. `block_size`: each split must hold one window of it. `characters`: the recipe's vocabulary, for tokenizer
    characters.
    """

    spec: str
    tokenizer: str
    val_tokens: int
    most_tokens: int | None = None
    folder: Path | None = None
    block_size: int = 1024
    characters: str | None = None


@dataclass(frozen=True)
class ResolvedSource:
    """What a name stands for. One field is set: `manifest`, a set that nanofit prepared; `existing`, another program's shards;
    `hub`, a dataset of the hub; `local`, text on this machine (None until `resolve_request` has opened it)."""

    manifest: Manifest | None = None
    existing: "ExistingSet | None" = None
    hub: HubName | None = None
    local: "LocalSource | None" = None


def resolve(spec: str, wanted_tokens: float | None = None) -> ResolvedSource:
    """What `spec` stands for. FineWeb without a subset is its smallest subset that holds `wanted_tokens`.

    Raises UserError, with the nearest name, where `spec` names nothing, and for an incomplete set of shards.
    """
    path = Path(spec).expanduser()
    if is_prepared(path):
        return ResolvedSource(manifest=read_manifest(path))
    if path.is_file() if path.suffix in (".bin", ".ds") else holds_files_of_tokens(path):
        from nanofit.data.shards.existing import existing_set  # here, because numpy takes long to import

        existing = existing_set(path)
        if existing is not None:
            return ResolvedSource(existing=existing)
    hub = hub_name(spec, wanted_tokens)
    if hub is None and spec != "python" and not path.exists():
        raise UserError(nothing_named(spec))
    return ResolvedSource(hub=hub)


def resolve_request(request: Request) -> tuple[ResolvedSource, Path]:
    """What `request` names, with local text opened, and the folder of its shards. Raises UserError as `resolve` does."""
    source = resolve(_pinned_name(request), request.most_tokens)
    if source.existing is not None:
        source = ResolvedSource(manifest=source.existing.manifest())
    if source.manifest is not None:
        return source, Path(request.spec).expanduser()
    if source.hub is not None:
        return source, request.folder or Path("data") / f"{source.hub.folder_name}-{request.tokenizer}"
    local = _open_local(request)
    return replace(source, local=local), _local_folder(local, request)


def _pinned_name(request: Request) -> str:
    """The source's name. A set that was begun under this name keeps the subset that was chosen then."""
    if request.folder is not None and is_prepared(request.folder):
        made_of = read_manifest(request.folder).made_of
        if made_of.get("asked") == request.spec:
            return made_of["spec"]
    return request.spec


def _open_local(request: Request) -> "LocalSource":
    """The request's text on this machine. A set that an older nanofit began, which read no .md and the like, stays without."""
    local = open_source(request.spec)
    if all(ending in ENDINGS_BEFORE_MARKUP for ending in local.endings) or _is_of(local, request):
        return local
    try:
        before = open_source(request.spec, ENDINGS_BEFORE_MARKUP)
    except UserError:  # there is only text that was not read then
        return local
    return before if _is_of(before, request) else local


def _is_of(local: "LocalSource", request: Request) -> bool:
    """Whether the request's folder holds a set of this text."""
    folder = _local_folder(local, request)
    return is_prepared(folder) and read_manifest(folder).made_of.get("fingerprint") == local.fingerprint


def _local_folder(local: "LocalSource", request: Request) -> Path:
    return request.folder or shards_folder(local, request.tokenizer, request.most_tokens)


def shards_folder(source: "Source", tokenizer: str, most_tokens: int | None) -> Path:
    """The default folder of local text's shards. An edited corpus, or a part of one, has a folder of its own."""
    part = "" if most_tokens is None else f"-{most_tokens}"
    return Path("data") / f"{source.name}-{tokenizer}-{source.fingerprint}{part}"
