"""`verify`: a set of shards against its manifest, byte for byte, and samples of it against its text; what is bad is redone."""

from dataclasses import dataclass, replace
from pathlib import Path

from nanofit.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    ShardLine,
    is_prepared,
    rewrite,
    salvage,
)
from nanofit.data.prepare import disk_refusal, set_in
from nanofit.data.shards import first_index, shard_name, shard_tokens, starts_file
from nanofit.data.verifying.checking import Check, Fault
from nanofit.data.verifying.mending import Mender, hub_name_of
from nanofit.errors import UserError
from nanofit.events import Report, Verifying
from nanofit.locks import exclusive, is_held


@dataclass(frozen=True)
class Bad:
    """Something that was not as it should be. `how` it was mended, or why it could not be."""

    file: str
    problem: str
    is_mended: bool = False
    how: str = ""


@dataclass(frozen=True)
class Verified:
    """What `verify` found. `leftovers` are files in the folder that the manifest does not name: harmless, and nobody's."""

    manifest: Manifest
    read_bytes: int
    sampled_documents: int
    bad: tuple[Bad, ...]
    leftovers: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether all is as it should be, now."""
        return all(each.is_mended for each in self.bad)


def verify(folder: Path, report: Report, *, repair: bool = True) -> Verified:
    """Checks every shard that the manifest of `folder` names, and redoes what is bad where `repair` says so.

    Somebody may be preparing the set meanwhile, unless something has to be redone. Raises UserError for a folder without
    shards, and where another process holds one that has to be mended.
    """
    if not is_prepared(folder):
        manifest = set_in(folder)
        found = _Found(manifest, [], [])
        checked = _check(found, report, is_ours=False)
        return _verified(found, checked, [_bad(fault) for fault in checked.faults])
    found = _found(folder)
    checked = _check(found, report)
    if not repair or not (checked.faults or found.lost or found.unknown):
        bad = [*_lost_lines(found), *(_bad(fault) for fault in checked.faults)]
        return _verified(found, checked, bad)
    with exclusive(folder, "mending it"):
        if _found(folder) != found:
            raise UserError(f"{folder} changed while it was read: give the same command again")
        try:
            bad, found = _mend(found, checked.faults, report)
        except OSError as error:
            raise disk_refusal(folder, error) from None
    return _verified(found, checked, bad)


@dataclass(frozen=True)
class _Found:
    """A manifest with lines, without a sha256, in the places of those that are lost; `lost` are those, `unknown` the numbers of lines
    of which nobody knows what they said."""

    manifest: Manifest
    lost: list[ShardLine]
    unknown: list[int]


@dataclass(frozen=True)
class _Checked:
    faults: list[Fault]
    read_bytes: int
    sampled_documents: int


def _check(found: _Found, report: Report, *, is_ours: bool = True) -> _Checked:
    lines = [line for line in found.manifest.shards if line not in found.lost]
    total = sum(line.header_bytes + 2 * line.tokens for line in lines)
    done = 0

    def read(file: str, count: int) -> None:
        nonlocal done
        done += count
        report(Verifying(f"reading {file}", done, total))

    name = hub_name_of(found.manifest)
    check = Check(found.manifest, read, is_ours=is_ours, fetched=name is not None and name.kind == "tokens")
    faults = check.faults(lines)
    return _Checked(faults, done, check.sampled_documents)


def _bad(fault: Fault) -> Bad:
    file = Path(fault.line.file)
    return Bad((starts_file(file) if fault.part == "starts" else file).name, fault.problem)


def _lost_lines(found: _Found) -> list[Bad]:
    lost = [Bad(line.file, "its line in the manifest is damaged") for line in found.lost]
    return lost + [Bad(MANIFEST_NAME, f"line {number} is damaged") for number in found.unknown]


def _verified(found: _Found, checked: _Checked, bad: list[Bad]) -> Verified:
    manifest = found.manifest
    return Verified(manifest, checked.read_bytes, checked.sampled_documents, tuple(bad), tuple(_leftovers(manifest)))


def _leftovers(manifest: Manifest) -> list[str]:
    """Shards and unfinished ones that the manifest does not name, unless somebody may still be at work on them."""
    if not is_prepared(manifest.folder) or is_held(manifest.folder):
        return []
    endings = (".bin", ".starts", ".tmp", ".part") if manifest.closing is not None else (".bin", ".starts")
    named = {name for line in manifest.shards for name in (line.file, starts_file(Path(line.file)).name)}
    return sorted(file.name for file in manifest.folder.iterdir() if file.suffix in endings and file.name not in named)


# Mending


def _mend(found: _Found, faults: list[Fault], report: Report) -> tuple[list[Bad], _Found]:
    bad: list[Bad] = []
    with Mender(found.manifest, report) as mender:
        if found.unknown:
            bad += _without_unknown(mender, found)
        lost = [Fault(line, "shard", "its line in the manifest is damaged") for line in found.lost]
        order = {"starts": 0, "line": 0, "shard": 1, "tokens": 2}
        for fault in sorted([*lost, *faults], key=lambda each: (order[each.part], each.line.split == "train")):
            try:
                how, is_mended = mender.mend(fault), True
            except UserError as error:
                how, is_mended = str(error), False
            bad.append(replace(_bad(fault), is_mended=is_mended, how=how))
        still_lost = [line for line in found.lost if line in mender.manifest.shards]
        return bad, _Found(mender.manifest, still_lost, [])


def _without_unknown(mender: Mender, found: _Found) -> list[Bad]:
    """Leaves lines out of which nobody knows what they said: whatever it was, preparing finds it again."""
    manifest = found.manifest
    if not manifest.made_of and 1 in found.unknown and manifest.closing is None:
        how = "it said what the set was made of, without which it can't be gone on with: prepare it again in another folder"
        return [replace(bad, how=how) for bad in _lost_lines(replace(found, lost=[]))]
    if manifest.made_of:
        manifest = replace(manifest, closing=None)
        how = "left out: nanofit data prepare, as it was given before, completes the set"
    else:
        how = "left out: the tokens can be used, but what they were made of is lost"
    rewrite(manifest)
    mender.manifest = manifest
    return [replace(bad, is_mended=True, how=how) for bad in _lost_lines(replace(found, lost=[]))]


def _found(folder: Path) -> _Found:
    manifest, damaged = salvage(folder)
    shards = list(manifest.shards)
    lost: list[ShardLine] = []
    unknown: list[int] = []
    for line in damaged:
        at = line.shards + len(lost)
        missing = _missing(manifest, shards[:at], shards[at:])
        if missing is None:
            unknown.append(line.number)
        else:
            shards.insert(at, missing)
            lost.append(missing)
    return _Found(replace(manifest, shards=tuple(shards)), lost, unknown)


def _missing(manifest: Manifest, before: list[ShardLine], after: list[ShardLine]) -> ShardLine | None:
    """A line for the shard that must have stood between those of `before` and `after`, if there must have been one."""
    known = (before or after or [None])[0]
    if known is None:
        return None
    for split in ("val", "train"):
        index = first_index(split) + sum(line.split == split for line in before)
        file = shard_name(known.source, split, index)
        tokens = shard_tokens(split, index)
        following = next((line.file for line in after if line.split == split), None)
        is_whole_val = split == "val" and not following and (manifest.folder / file).exists()
        if is_whole_val and index == 0 and "val_tokens" in manifest.made_of:
            tokens = min(tokens, manifest.made_of["val_tokens"])
        elif following is None or following == file:
            continue
        return ShardLine(file, split, "", tokens, 0, 0, known.source, known.tokenizer, engine=known.engine)
    return None
