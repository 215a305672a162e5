"""Sets of tokens that another program made: nanoGPT's, llm.c's and datatrove's. They are used as they are; nothing is written
beside them.

nanoGPT's are `train.bin` and `val.bin`, nothing but uint16, of GPT-2's vocabulary or of the characters in `meta.pkl`. llm.c's
and modded-nanogpt's are `NAME_train_000001.bin` and the like, with a header, of GPT-2's vocabulary. datatrove's are `NAME.ds`
(`datatrove_files.py`).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanofit.common.durable import require_regular
from nanofit.common.errors import UserError
from nanofit.config.nanogpt_data import META_NAME, read_characters
from nanofit.config.vocabulary import CHARACTERS, DocumentVocabulary, vocabulary_of
from nanofit.data.shards.datatrove_files import PATTERN, VALIDATION, datatrove_files
from nanofit.data.shards.existing_file import ExistingFile, all_tokens, identity, sampled_tokens
from nanofit.data.shards.manifest import MANIFEST_NAME, Manifest, ShardLine, Split
from nanofit.data.shards.shard_files import HEADER_BYTES, MAGIC, VERSION, starts_file
from nanofit.data.tokenizing.tokenizers import character_byte_lengths, token_byte_lengths

NANOGPT_FILES: dict[Split, str] = {"val": "val.bin", "train": "train.bin"}
SHARD_NAME = re.compile(r"(.+)_(train|val)(_\d+)?\.bin")
"""`fineweb_train_000001.bin`, and `tiny_shakespeare_train.bin` where there is one file a split."""


@dataclass(frozen=True)
class ExistingSet:
    """The files of a set in the order of the token stream, validation first. `characters`: its vocabulary, where it is not
    GPT-2's. `validation`: what its validation split is."""

    folder: Path
    files: tuple[ExistingFile, ...]
    characters: str | None = None
    validation: str = "the validation files of this set"

    @property
    def tokenizer(self) -> str:
        return "gpt2" if self.characters is None else CHARACTERS

    def manifest(self) -> Manifest:
        """The set as nanofit describes its own. `sha256` is that of a sample, `documents` and `text_bytes` of training files
        of more than 4 MiB are counted in a sample; those of validation are exact, as bits per byte rest on them.

        Raises UserError for a file with ids beyond the vocabulary in the sample.
        """
        made_of = {
            "spec": str(self.folder),
            "tokenizer": self.tokenizer,
            "characters": self.characters,
            "validation": self.validation,
            "comparable": False,
        }
        lines = tuple(self._line(file) for file in self.files)
        return Manifest(self.folder, lines, {"closed": True, "exhausted": True}, made_of)

    def _line(self, file: ExistingFile) -> ShardLine:
        vocabulary = vocabulary_of(self.tokenizer, self.characters)
        lengths = np.zeros(2**16, dtype=np.uint8)
        lengths[: vocabulary.size] = (
            token_byte_lengths(self.tokenizer) if self.characters is None else character_byte_lengths(self.characters)
        )
        separator = vocabulary.separator if isinstance(vocabulary, DocumentVocabulary) else None
        seen = separators = text_bytes = 0
        for tokens in all_tokens(file) if file.split == "val" else sampled_tokens(file):
            if len(tokens) and tokens.max() >= vocabulary.size:
                whose = "GPT-2's vocabulary" if self.characters is None else f"that of {META_NAME}"
                raise UserError(
                    f"{file.path} holds id {tokens.max()}, and {whose} ends at {vocabulary.size - 1}: it was made "
                    "with another tokenizer; give the text that it was made of as --source"
                )
            seen += len(tokens)
            separators += 0 if separator is None else int(np.count_nonzero(tokens == separator))
            text_bytes += int(lengths[tokens].sum(dtype=np.int64))
        return ShardLine(
            file=str(file.path.relative_to(self.folder)),
            split=file.split,
            sha256=identity(file),
            tokens=file.tokens,
            documents=max(1, separators * file.tokens // seen),
            text_bytes=text_bytes * file.tokens // seen,
            source=self.folder.resolve().name,
            tokenizer=self.tokenizer,
            header_bytes=file.header_bytes,
        )


def existing_set(path: Path) -> ExistingSet | None:
    """The set in folder `path`, or the one that a `train.bin` belongs to; None where there is nothing of the kind.

    Only names, sizes, headers and a few documents are read. Raises UserError for a set that is not whole, or is of other tokens.
    """
    if path.is_file():
        if path.suffix not in (".bin", ".ds"):
            return None
        if path.name not in NANOGPT_FILES.values():
            raise UserError(f"{path} is one file of a set: give the folder that it lies in")
        path = path.parent
    if not path.is_dir():
        return None
    names = {file.name for file in path.glob("*.bin")}
    if names & set(NANOGPT_FILES.values()):
        return _nanogpt_set(path, names)
    shards = [match for name in sorted(names) if (match := SHARD_NAME.fullmatch(name))]
    if any(starts_file(path / shard[0]).exists() for shard in shards):
        raise UserError(
            f"{path} holds shards of nanofit without their {MANIFEST_NAME}, which says what they are: put it back, or prepare "
            "them again in another folder"
        )
    return _llmc_set(path, shards) if shards else _datatrove_set(path)


def _nanogpt_set(folder: Path, names: set[str]) -> ExistingSet:
    for split, name in NANOGPT_FILES.items():
        if name not in names:
            raise UserError(f"{folder} holds no {name}, the {split} split: let its prepare.py run to its end")
    files = tuple(_file(folder / name, split) for split, name in NANOGPT_FILES.items())
    meta = folder / META_NAME
    return ExistingSet(folder, files, read_characters(meta) if meta.exists() else None)


def _llmc_set(folder: Path, shards: list[re.Match[str]]) -> ExistingSet:
    names = sorted({shard[1] for shard in shards})
    if len(names) > 1:
        raise UserError(f"{folder} holds the shards of {', '.join(names)}: give a folder with one of these sets")
    for split in ("train", "val"):
        if not any(shard[2] == split for shard in shards):
            raise UserError(f"{folder} holds no {names[0]}_{split}_*.bin: a set needs files of both splits")
    files = [
        _file(folder / shard[0], split, needs_header=True)
        for split in ("val", "train")
        for shard in shards
        if shard[2] == split
    ]
    return ExistingSet(folder, tuple(files))


def _datatrove_set(folder: Path) -> ExistingSet | None:
    files = datatrove_files(folder)
    if not files:
        return None
    validation = VALIDATION if any(folder.glob(PATTERN)) else "the files of this set's folder val"
    return ExistingSet(folder, files, validation=validation)


def _file(path: Path, split: Split, *, needs_header: bool = False) -> ExistingFile:
    size = require_regular(path).stat().st_size
    if size == 0:
        raise UserError(f"{path} is empty: make it again")
    if size % 2:
        raise UserError(f"{path} has an odd number of bytes, so it is cut off or not of uint16 tokens: make it again")
    begin = np.fromfile(path, dtype="<i4", count=3)
    if len(begin) < 3 or begin[0] != MAGIC:
        if needs_header:
            raise UserError(
                f"{path} does not begin as a file of llm.c's GPT-2 data does (magic {MAGIC}): it is damaged, or of "
                "another tokenizer"
            )
        return ExistingFile(path, split, size // 2, 0)
    tokens = (size - HEADER_BYTES) // 2
    if begin[1] != VERSION:
        raise UserError(f"{path} is of version {begin[1]} of llm.c's format, nanofit reads {VERSION}: make it again")
    if begin[2] != tokens or tokens < 1:
        raise UserError(f"{path} should hold {begin[2]:,} tokens and holds {max(tokens, 0):,}: fetch or make it again")
    return ExistingFile(path, split, tokens, HEADER_BYTES)
