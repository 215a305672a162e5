"""What a source's name stands for: found without a network, without reading text, and without importing what reads it.

`plan`, `train`, `data prepare` and `probe` resolve sources here, so they accept the same names and refuse the others in the
same words. How much text a source holds is in `source_facts.py`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nanofit.common.errors import UserError
from nanofit.data.shards.manifest import Manifest, is_prepared, read_manifest
from nanofit.data.sources.hub.names import HubName, hub_name
from nanofit.data.sources.unknown_names import nothing_named

if TYPE_CHECKING:
    from nanofit.data.shards.existing import ExistingSet


@dataclass(frozen=True)
class ResolvedSource:
    """What a name stands for: a set that nanofit prepared (`manifest`), another's shards (`existing`), a dataset of the hub
    (`hub`), or text on this machine (none of them)."""

    spec: str
    manifest: Manifest | None = None
    existing: "ExistingSet | None" = None
    hub: HubName | None = None


def resolve(spec: str, wanted_tokens: float | None = None) -> ResolvedSource:
    """What `spec` stands for; of FineWeb without a subset, the smallest one that holds `wanted_tokens`.

    Raises UserError, with the nearest name, where `spec` names nothing, and for a set of shards that is incomplete.
    """
    path = Path(spec).expanduser()
    if is_prepared(path):
        return ResolvedSource(spec, manifest=read_manifest(path))
    existing = _existing_set(path)
    if existing is not None:
        return ResolvedSource(spec, existing=existing)
    hub = hub_name(spec, wanted_tokens)
    if hub is None and spec != "python" and not path.exists():
        raise UserError(nothing_named(spec))
    return ResolvedSource(spec, hub=hub)


def _existing_set(path: Path) -> "ExistingSet | None":
    if path.suffix != ".bin" and not (path.is_dir() and any(path.glob("*.bin"))):
        return None
    if not path.exists():
        return None
    from nanofit.data.shards.existing import existing_set  # here, because numpy takes long to import

    return existing_set(path)
