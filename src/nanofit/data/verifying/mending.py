"""Mending a set of shards: only what is bad is made again, and it must come out as the manifest says.

A shard is written elsewhere and takes its place when its sha256 is right. Where tokens themselves were wrong, the shard and
all that follows from it change: the manifest changes first, so that a crash leaves a set that is mended the next time.
"""

import shutil
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import replace

import numpy as np

from nanofit.data.documents import DamagedFile, Source
from nanofit.data.engines import Engine, fast_engine, reference_engine
from nanofit.data.hub.names import FINEWEB, HubName, hub_name
from nanofit.data.local.kinds import ENDINGS_BEFORE_MARKUP, TEXT_ENDINGS
from nanofit.data.local.sources import open_source
from nanofit.data.manifest import Manifest, ShardLine, rewrite
from nanofit.data.places import place_after
from nanofit.data.shards import file_sha256, starts_file, write_starts
from nanofit.data.verifying.checking import Fault
from nanofit.data.verifying.remaking import shards_again
from nanofit.durable import make_folder, publish
from nanofit.errors import UserError
from nanofit.events import Report, Verifying
from nanofit.vocabulary import VOCABULARIES

AGAIN = ".again"
"""In the set's folder: what is being made again."""


def hub_name_of(manifest: Manifest) -> HubName | None:
    """The dataset of the hub that a set was made of, None for text of this machine."""
    return hub_name(manifest.made_of["spec"]) if "commit" in manifest.made_of else None


class Mender:
    """Mends the set of `manifest`, which changes with it; use as a context manager, and hold the folder."""

    def __init__(self, manifest: Manifest, report: Report) -> None:
        self.manifest = manifest
        self._report = report
        self._folder = manifest.folder
        self._again = manifest.folder / AGAIN
        self._stack = ExitStack()
        self._source: Source | None = None
        self._no_source: UserError | None = None

    def __enter__(self) -> "Mender":
        make_folder(self._again)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        shutil.rmtree(self._again, ignore_errors=True)

    def mend(self, fault: Fault) -> str:
        """Mends what is wrong, and says how. Raises UserError where that can't be done."""
        line = fault.line
        try:
            if fault.part == "starts":
                write_starts(self._folder / line.file, self._starts(line))
                return "made again from the shard"
            if fault.part == "line":
                assert fault.right is not None
                self._set_line(fault.right)
                return "counted again"
            if fault.part == "tokens":
                return self._encode_again(line)
            return self._make_again(line)
        except DamagedFile as damage:
            raise UserError(f"{damage}: give the same command again") from None

    def _starts(self, line: ShardLine) -> np.ndarray:
        tokens = np.fromfile(self._folder / line.file, dtype="<u2", offset=line.header_bytes)
        return np.flatnonzero(tokens == VOCABULARIES[line.tokenizer].separator)

    # A shard that is not what the manifest says

    def _make_again(self, line: ShardLine) -> str:
        name = hub_name_of(self.manifest)
        if name is not None and name.kind == "tokens":
            self._fetch(name, line)
            return "fetched again"
        reference = reference_engine(line.tokenizer)
        is_reference = line.engine.split(" ")[0] == reference.name.split(" ")[0]
        engine = reference if is_reference else fast_engine(line.tokenizer, self._report)
        with closing(self._shards_again(line, engine)) as shards:
            made = next(shards, None)
        if made is None or (line.sha256 and made.sha256 != line.sha256):
            there = self._folder / line.file
            if made is None or not there.exists() or file_sha256(there) != made.sha256:
                raise UserError(
                    f"{line.file}, made again, is not what the manifest says either: {self._spec()} has changed since, "
                    f"or {self._folder} is of an older nanofit: make the set again in another folder"
                )
        if line.sha256 == made.sha256 and _counts(line) == _counts(made):
            self._take(made)
            return "made again from the source"
        self._set_line(made)  # the file was right, what the manifest says of it was not
        self._take(made)
        return "found again from the source"

    def _shards_again(self, line: ShardLine, engine: Engine) -> Generator[ShardLine, None, None]:
        source = self._open_source()
        lines = self.manifest.of(line.split)
        needed = lines[: lines.index(line)][-1:]
        if line.split == "train" and "val_tokens" in self.manifest.made_of:
            needed += self.manifest.of("val")[-1:]  # training may begin where validation ends
        for each in needed:
            if not each.cursor:
                raise UserError(f"{line.file} can't be made again before {each.file} is")
        return shards_again(source, self.manifest, line, engine, self._again, self._report)

    def _take(self, made: ShardLine) -> None:
        """Moves a shard that was made again to its place."""
        file = self._again / made.file
        starts_file(file).replace(starts_file(self._folder / made.file))
        publish(file, self._folder / made.file)

    def _set_line(self, right: ShardLine) -> None:
        shards = tuple(right if line.file == right.file else line for line in self.manifest.shards)
        self._set_manifest(replace(self.manifest, shards=shards))

    def _set_manifest(self, manifest: Manifest) -> None:
        rewrite(manifest)
        self.manifest = manifest

    # Tokens that the reference would not have made

    def _encode_again(self, line: ShardLine) -> str:
        now = {each.file: each for each in self.manifest.shards}
        if any(not each.sha256 for each in self.manifest.shards):
            raise UserError(f"{line.file} can't be encoded again before the manifest is whole")
        if now[line.file] != line:
            return "encoded again with the reference"  # with one before it
        val_end = place_after(self.manifest.of("val"))
        self._encode_from(line)
        train = self.manifest.of("train")
        if line.split == "val" and place_after(self.manifest.of("val")) != val_end and train:
            # Validation ends with another document, so training begins with another one where it follows upon it.
            self._encode_from(train[0])
        return "encoded again with the reference"

    def _encode_from(self, line: ShardLine) -> None:
        """Makes the shard of `line` again with the reference, and those after it until one ends where it ended before: what
        follows it is as it was."""
        before = {each.file: each for each in self.manifest.of(line.split)}
        with closing(self._shards_again(line, reference_engine(line.tokenizer))) as shards:
            closing_line, self.manifest = self.manifest.closing, replace(self.manifest, closing=None)
            for made in shards:
                old = before.pop(made.file, None)
                ends_alike = old is not None and old.cursor == made.cursor
                self._put(made, drops_rest=not ends_alike)
                self._take(made)
                if ends_alike:
                    break
        self._set_manifest(replace(self.manifest, closing=closing_line))
        named = {each.file for each in self.manifest.shards}
        for file in before.keys() - named:
            starts_file(self._folder / file).unlink(missing_ok=True)
            (self._folder / file).unlink(missing_ok=True)

    def _put(self, made: ShardLine, *, drops_rest: bool) -> None:
        """Puts a new line into the manifest; what follows in its split goes if it `drops_rest`."""
        shards: list[ShardLine] = []
        is_behind = False
        for each in self.manifest.shards:
            if each.file == made.file:
                is_behind = True
                shards.append(made)
            elif not (is_behind and drops_rest and each.split == made.split):
                shards.append(each)
        if not is_behind:
            shards.append(made)
        self._set_manifest(replace(self.manifest, shards=tuple(shards)))

    # Where it all came from

    def _spec(self) -> str:
        spec = self.manifest.made_of.get("spec")
        if "ranks" in self.manifest.made_of:
            raise UserError(
                f"{self._folder} was merged from what a cluster wrote: merge that again into another folder"
            )
        if spec is None:
            raise UserError(
                f"{self._folder} does not say what it was made of (an older nanofit wrote it, or its first line is lost): "
                "make the set again in another folder"
            )
        return spec

    def _open_source(self) -> Source:
        """The source that the set was made of, as it was then. Raises UserError when it is gone or has changed."""
        if self._no_source is not None:
            raise self._no_source
        if self._source is None:
            try:
                spec = self._spec()
                name = hub_name_of(self.manifest)
                # Sets that do not say which files were read are of the first versions.
                endings = TEXT_ENDINGS if "files" in self.manifest.made_of else ENDINGS_BEFORE_MARKUP
                self._source = open_source(spec, endings) if name is None else self._open_hub(name)
                if self._source.fingerprint != self.manifest.made_of["fingerprint"]:
                    raise UserError(
                        f"{spec} has changed since {self._folder} was made: make the set again in another folder"
                    )
            except UserError as error:
                self._no_source = error
                raise
        return self._source

    def _open_hub(self, name: HubName) -> Source:
        from nanofit.data.hub.client import Hub  # takes a third of a second to import
        from nanofit.data.hub.source import before_cards, open_hub_source

        made_of = self.manifest.made_of
        hub = self._stack.enter_context(Hub(name.repo, made_of["commit"], report=self._report))
        validation_commit = made_of.get("validation_commit") or "main"
        validation_hub = self._stack.enter_context(Hub(FINEWEB, validation_commit, report=self._report))
        return open_hub_source(
            name,
            hub,
            val_tokens=made_of["val_tokens"],
            validation_hub=validation_hub,
            spool=self._again / "spool",
            report=self._report,
            before_cards=before_cards(made_of),
        )

    def _fetch(self, name: HubName, line: ShardLine) -> None:
        from nanofit.data.hub.client import Hub
        from nanofit.data.hub.pretokenised import fetch_shards, shard_files

        with Hub(name.repo, self.manifest.made_of["commit"], report=self._report) as hub:
            listed = {file.path: file.sha256 for file in shard_files(hub, None)}
            if listed.get(line.file) != line.sha256:
                raise UserError(
                    f"{name.spec} has no longer the {line.file} of this set: make it again in another folder"
                )
            self._report(Verifying(f"fetching {line.file} again", 0, 2 * line.tokens))
            for shard in fetch_shards(hub, self._folder, None, set(listed) - {line.file}):
                write_starts(self._folder / shard.file, shard.starts)


def _counts(line: ShardLine) -> tuple[int, int, int, str]:
    return line.tokens, line.documents, line.text_bytes, line.starts_sha256
