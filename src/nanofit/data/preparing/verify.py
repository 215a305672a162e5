"""`verify`: compares a set of shards with its manifest, byte for byte, re-encodes samples of its text, and repairs what is bad."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from nanofit.common.errors import UserError
from nanofit.common.events import Report, Verifying
from nanofit.common.locks import exclusive, is_held
from nanofit.data.preparing.repair import cut_manifest, hub_name_of, repair
from nanofit.data.preparing.set_folder import disk_refusal, set_in
from nanofit.data.shards.checking import Check, Fault
from nanofit.data.shards.manifest import MANIFEST_NAME, Manifest, is_prepared, read_good_part
from nanofit.data.shards.shard_files import starts_file


@dataclass(frozen=True)
class Bad:
    """A bad file. `how` it was mended, or why it could not be. `is_cut_back`: the set now ends before it."""

    file: str
    problem: str
    is_mended: bool = False
    how: str = ""
    is_cut_back: bool = False


@dataclass(frozen=True)
class Verified:
    """What `verify` found.

    `leftovers`: files of a complete set's folder that its manifest does not name, which are harmless. `next_step`: the command
    that completes an incomplete set, "" for a complete one.
    """

    manifest: Manifest
    read_bytes: int
    sampled_documents: int
    bad: tuple[Bad, ...]
    leftovers: tuple[str, ...]
    next_step: str

    @property
    def is_good(self) -> bool:
        """Whether every shard of the manifest is there and right, or was mended."""
        return all(each.is_mended for each in self.bad)


def verify(folder: Path, report: Report, *, repair: bool = True) -> Verified:
    """Checks every shard in the manifest of `folder`, and repairs the bad ones if `repair`.

    Checking works while another process prepares the set; repairing does not. Raises UserError for a folder without shards, and
    where another process holds a folder that needs repair.
    """
    if is_prepared(folder):
        manifest, damage = read_good_part(folder)
    else:
        manifest, damage = set_in(folder), None
    checked = _check(manifest, report, is_ours=is_prepared(folder))
    bad = [_bad(fault) for fault in checked.faults]
    if damage is not None:
        bad = [Bad(MANIFEST_NAME, damage), *bad]
    if repair and bad and is_prepared(folder):
        with exclusive(folder, "repairing it"):
            if read_good_part(folder) != (manifest, damage):
                raise UserError(f"{folder} changed while it was read: give the same command again")
            try:
                bad = _repaired(manifest, damage, checked.faults, report)
            except OSError as error:
                raise disk_refusal(folder, error) from None
        manifest = read_good_part(folder)[0]
    is_damaged = any(each.file == MANIFEST_NAME and not each.is_cut_back for each in bad)
    next_step = "" if is_damaged else _next_step(manifest)
    leftovers = tuple(_leftovers(manifest))
    return Verified(manifest, checked.read_bytes, checked.sampled_documents, tuple(bad), leftovers, next_step)


@dataclass(frozen=True)
class _Checked:
    faults: list[Fault]
    read_bytes: int
    sampled_documents: int


def _check(manifest: Manifest, report: Report, *, is_ours: bool) -> _Checked:
    total = sum(2 * line.tokens for line in manifest.shards)
    done = 0

    def read(file: str, count: int) -> None:
        nonlocal done
        done += count
        report(Verifying(f"reading {file}", done, total))

    name = hub_name_of(manifest)
    check = Check(manifest, read, is_ours=is_ours, fetched=name is not None and name.kind == "tokens")
    faults = check.faults()
    return _Checked(faults, done, check.sampled_documents)


def _bad(fault: Fault) -> Bad:
    if fault.part == "line":
        return Bad(MANIFEST_NAME, f"the line of {fault.line.file} is damaged ({fault.problem})")
    file = Path(fault.line.file)
    return Bad((starts_file(file) if fault.part == "starts" else file).name, fault.problem)


def _repaired(manifest: Manifest, damage: str | None, faults: list[Fault], report: Report) -> list[Bad]:
    """Cuts a damaged manifest back, and repairs the bad shards that remain in it."""
    bad: list[Bad] = []
    shards = manifest.shards
    keep = min((shards.index(fault.line) for fault in faults if fault.part == "line"), default=len(shards))
    if damage is not None or keep < len(shards):
        if manifest.made_of:
            how, is_cut_back = cut_manifest(manifest.folder, keep), True
        else:
            how = "nothing says what the set was made of: prepare it again in another folder"
            is_cut_back = False
        problems = [damage] if damage is not None else []
        problems += [_bad(fault).problem for fault in faults if fault.part == "line"]
        bad += [Bad(MANIFEST_NAME, problem, how=how, is_cut_back=is_cut_back) for problem in problems]
    for fault in faults:
        if fault.part == "line" or fault.line not in shards[:keep]:
            continue
        try:
            bad.append(replace(_bad(fault), is_mended=True, how=repair(fault, manifest, report)))
        except UserError as error:
            bad.append(replace(_bad(fault), how=str(error)))
    return bad


def _next_step(manifest: Manifest) -> str:
    """The command that completes a set, with the options that its manifest knows. "" for a set that is complete, that another
    process is completing, or whose source is unknown."""
    folder, made_of = manifest.folder, manifest.made_of
    if manifest.closing is not None or not is_prepared(folder) or is_held(folder):
        return ""
    if "spec" not in made_of:
        return ""
    command = ["nanofit", "data", "prepare", made_of.get("asked") or made_of["spec"], "--tokenizer", manifest.tokenizer]
    name = hub_name_of(manifest)
    if name is not None and name.kind != "tokens":
        command += ["--val_tokens", str(made_of["val_tokens"])]
    if made_of.get("most_tokens") is not None:
        command += ["--tokens", str(made_of["most_tokens"])]
    more = " (with the --tokens that you gave before)" if name is not None else ""
    return f"{shlex.join([*command, '--out', str(folder)])}{more} makes the missing shards"


def _leftovers(manifest: Manifest) -> list[str]:
    """Shards, finished or not, that the manifest of a complete set does not name."""
    if manifest.closing is None or not is_prepared(manifest.folder) or is_held(manifest.folder):
        return []
    named = {name for line in manifest.shards for name in (line.file, starts_file(Path(line.file)).name)}
    endings = (".bin", ".starts", ".tmp", ".part")
    return sorted(file.name for file in manifest.folder.iterdir() if file.suffix in endings and file.name not in named)
