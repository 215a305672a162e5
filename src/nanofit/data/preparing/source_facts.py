"""What a plan needs to know of a source: how many tokens it holds, and whether its loss is FineWeb's.

It is estimated from names, file sizes and manifests, without a network, and reads a few kilobytes at most.
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from nanofit.common.errors import UserError
from nanofit.data.preparing.resolve import resolve
from nanofit.data.shards.manifest import Manifest, is_prepared, read_manifest
from nanofit.data.sources.hub.names import FINEWEB, FINEWEB_BYTES_PER_TOKEN, HubName, hub_name
from nanofit.data.sources.local.sources import corpus_of, python_files, text_problem
from nanofit.data.sources.unknown_names import NANOGPT_DATASETS

if TYPE_CHECKING:
    from nanofit.data.shards.existing import ExistingSet

MAX_VALIDATION = 0.1
"""Largest share of local text that validation takes."""

BYTES_PER_TOKEN = {"bytes": 1.0, "gpt2": 4.3}
"""Bytes of English text per token, for estimates (FineWeb has 0.216 tokens per byte)."""

PYTHON_BYTES_PER_TOKEN = 2.1
"""Bytes of Python source per token of GPT-2: 2.13 on the first 1.5 MB of CPython 3.11's library."""

OTHER_SCRIPTS_BYTES_PER_TOKEN = 1.8
"""The same for text that is mostly not ASCII: 2.09 on Japanese, 1.43 on Chinese, 1.69 on Russian prose."""

MOSTLY_OTHER_SCRIPTS = 0.3
"""Share of non-ASCII bytes above which that figure is used."""

SAMPLE_BYTES = 16_384

MAX_TEXT_FACTOR = 2.0
"""Plain text has at most this many times its estimated tokens; a packed file has no bound."""

PLANNED_SAMPLES = 1_000
"""Files whose first bytes a plan checks: 0.03 to 0.2 s (docs/log.md). Training checks more."""

TEXT_PER_FILE_BYTE = {".gz": 2.6, ".zst": 2.5, ".parquet": 1.5}
"""Bytes of text per byte of file, by ending; 1 for all others. gzip (level 6) and Zstandard (level 3) on 58 kB of FineWeb's text:
2.67 and 2.46; parquet: FineWeb's sample-10BT has 10^10 tokens of 4.64 bytes in 30.6 GB."""

PUBLISHED_TOKENS = {
    "fineweb": 15e12,
    "fineweb:sample-10BT": 10e9,
    "fineweb:sample-100BT": 100e9,
    "fineweb:sample-350BT": 350e9,
    "fineweb:default": 15e12,
    "fineweb-edu": 1.3e12,
    "fineweb-edu:sample-10BT": 10e9,
    "fineweb-edu:sample-100BT": 100e9,
    "fineweb-edu:sample-350BT": 350e9,
    "fineweb-edu:default": 1.3e12,
    "kjj0/fineweb10B-gpt2": 10e9,
    "kjj0/fineweb100B-gpt2": 100e9,
}
"""Training tokens of tokenizer gpt2, from the datasets' cards on the hub."""

FINEWEB_NAME = re.compile(r"fineweb(-?\d+BT?)?(-gpt2)?", re.IGNORECASE)
"""How the usual downloads of FineWeb's tokens name their folder or their shards: fineweb, fineweb10B, fineweb100B."""


@dataclass(frozen=True)
class SourceFacts:
    """What a plan needs to know of a source.

    `unique_tokens`: its training tokens, None if unknown before training; `counted`: what that number rests on. `val_tokens`: its
    validation tokens, None for the hub. `is_of_hub`: it is a hub dataset. `is_fineweb`: FineWeb's losses are expected of it.
    `bytes_per_token`: bytes downloaded per token, None if nothing is or if unknown. `tokenizer`: of shards, None for text.
    `max_factor`: the source has at most so many times the tokens given here. `problem`: why training can't begin, with the mend.
    """

    unique_tokens: float | None = None
    counted: str = ""
    val_tokens: float | None = None
    is_of_hub: bool = False
    is_fineweb: bool = False
    bytes_per_token: float | None = None
    tokenizer: str | None = None
    max_factor: float = 1.0
    problem: str | None = None

    @property
    def are_shards(self) -> bool:
        """Whether the source is a set of shards on this disk."""
        return self.tokenizer is not None and not self.is_of_hub


def facts_of(
    spec: str, tokenizer: str | None, val_tokens: int, folder: Path | None = None, characters: str | None = None
) -> SourceFacts:
    """What a plan needs to know of the source `spec`.

    `tokenizer` None: that of its shards, or gpt2 for text. `folder`: where a run keeps its shards. `characters`: the recipe's
    vocabulary, for tokenizer characters. Never raises: an error becomes the facts' `problem`.
    """
    try:
        if folder is not None and is_prepared(folder):
            manifest = read_manifest(folder)
            if manifest.is_final and manifest.shards:
                return _facts_of_set(manifest, tokenizer, characters)
        source = resolve(spec)
        if source.manifest is not None:
            return _facts_of_set(source.manifest, tokenizer, characters)
        if source.existing is not None:
            return _facts_of_existing(source.existing, tokenizer, characters)
        if source.hub is not None:
            return _facts_of_dataset(spec, source.hub, tokenizer)
        return _facts_of_text(spec, tokenizer or "gpt2", val_tokens)
    except UserError as error:
        known = NANOGPT_DATASETS.get(spec)
        counted = "nanoGPT's readme" if known else ""
        return SourceFacts(known, counted, is_fineweb=spec == "openwebtext", problem=str(error))
    except OSError as error:
        return SourceFacts(problem=f"{error.filename or spec} can't be read: {error.strerror or error}")


def problem_of_set(manifest: Manifest, tokenizer: str, characters: str | None) -> str | None:
    """Why a recipe with this tokenizer and vocabulary can't train on a set of shards, with the mend; None if it can."""
    if not manifest.shards:
        return f"{manifest.folder} is not complete: nanofit data prepare SOURCE --out {manifest.folder}"
    if manifest.tokenizer != tokenizer:
        return _other_tokenizer(manifest.folder, manifest.tokenizer, tokenizer)
    return problem_of_characters(manifest.folder, manifest.made_of.get("characters"), characters)


def problem_of_characters(folder: Path, own: str | None, wanted: str | None) -> str | None:
    """Why a recipe with the vocabulary `wanted` can't use the tokens in `folder`, of the vocabulary `own`; None if it can."""
    if wanted in (None, own):
        return None
    return (
        f"the vocabulary of {folder} (meta.pkl) is not the recipe's: leave `characters` out of the recipe to take the data's, or "
        "give the data that the recipe was made for"
    )


def _other_tokenizer(folder: Path, own: str, asked: str) -> str:
    return f"{folder} was made with tokenizer {own}, the recipe says {asked}: --tokenizer {own}, or another --folder"


def problem_of_length(tokens: float, split: str, block_size: int) -> str | None:
    """Why a split of `tokens` tokens is too short for a window of `block_size`, with the mend; None if it is long enough."""
    if tokens > block_size:
        return None
    return (
        f"the corpus is too short: {tokens:,.0f} {split} tokens, and one window takes {block_size + 1:,}: give more text, more "
        "documents, or a smaller block_size"
    )


def problem_of_tokens(name: HubName, tokenizer: str) -> str | None:
    """Why a recipe with `tokenizer` can't use a hub dataset of tokens, with the mend; None if it can."""
    if name.kind == "tokens" and tokenizer != "gpt2":
        return f"{name.spec} is tokens of gpt2, and the recipe says {tokenizer}: --tokenizer gpt2"
    return None


def _facts_of_set(manifest: Manifest, tokenizer: str | None, characters: str | None) -> SourceFacts:
    made_of = str(manifest.made_of.get("spec", ""))
    try:
        is_fineweb = _is_fineweb(hub_name(made_of)) if made_of else False
    except UserError:
        is_fineweb = False  # made of text that is gone since
    own = manifest.tokenizer if manifest.shards else None
    problem = problem_of_set(manifest, tokenizer or own or "gpt2", characters)
    tokens, val_tokens = manifest.tokens("train"), manifest.tokens("val")
    return SourceFacts(tokens, "its manifest", val_tokens, is_fineweb=is_fineweb, tokenizer=own, problem=problem)


def _facts_of_existing(existing: "ExistingSet", tokenizer: str | None, characters: str | None) -> SourceFacts:
    tokens, val_tokens = (
        sum(file.tokens for file in existing.files if file.split == split) for split in ("train", "val")
    )
    name, first = existing.folder.resolve().name, existing.files[0].path.stem.partition("_")[0]
    is_fineweb = any(FINEWEB_NAME.fullmatch(word) for word in (name, first))
    own, problem = existing.tokenizer, problem_of_characters(existing.folder, existing.characters, characters)
    if tokenizer is not None and tokenizer != own:
        problem = _other_tokenizer(existing.folder, own, tokenizer)
    return SourceFacts(
        tokens, "the sizes of its files", val_tokens, is_fineweb=is_fineweb, tokenizer=own, problem=problem
    )


def _facts_of_dataset(spec: str, name: HubName, tokenizer: str | None) -> SourceFacts:
    known = PUBLISHED_TOKENS.get(spec, PUBLISHED_TOKENS.get(name.spec))
    if known is not None and tokenizer == "bytes":
        known *= BYTES_PER_TOKEN["gpt2"]
    download = 2.0 if name.kind == "tokens" else FINEWEB_BYTES_PER_TOKEN if name.is_fineweb else None
    if download is not None and tokenizer == "bytes":
        download /= BYTES_PER_TOKEN["gpt2"]
    return SourceFacts(
        known,
        "as published" if known else "",
        is_of_hub=True,
        is_fineweb=_is_fineweb(name),
        bytes_per_token=download,
        tokenizer="gpt2" if name.kind == "tokens" else None,
        problem=problem_of_tokens(name, tokenizer or "gpt2"),
    )


def _facts_of_text(spec: str, tokenizer: str, val_tokens: int) -> SourceFacts:
    if spec == "python":
        sizes = []
        text_bytes = float(sum(file.stat().st_size for file in python_files()))
        per_token = PYTHON_BYTES_PER_TOKEN if tokenizer == "gpt2" else 1.0
    else:
        sizes = corpus_of(Path(spec).expanduser()).files
        text_bytes = sum(stat.st_size * TEXT_PER_FILE_BYTE.get(file.suffix.lower(), 1.0) for file, stat in sizes)
        per_token = BYTES_PER_TOKEN.get(tokenizer, 1.0)
        if tokenizer == "gpt2" and _is_mostly_of_other_scripts([file for file, _ in sizes]):
            per_token = OTHER_SCRIPTS_BYTES_PER_TOKEN
    tokens = text_bytes / per_token
    counted = "the sizes of its files" if per_token == 1 else f"the sizes of its files, {per_token:g} bytes per token"
    held_out = min(MAX_VALIDATION * tokens, val_tokens)
    state = tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in sizes)
    is_packed = any(file.suffix.lower() in TEXT_PER_FILE_BYTE for file, _ in sizes)
    max_factor = math.inf if is_packed else MAX_TEXT_FACTOR
    return SourceFacts(tokens - held_out, counted, held_out, max_factor=max_factor, problem=_text_problem(state))


@lru_cache(maxsize=1)
def _text_problem(state: tuple[tuple[Path, int, int], ...]) -> str | None:
    """`text_problem` of the files, cached by their sizes and times of change: a plan asks several times."""
    return text_problem([file for file, *_ in state], PLANNED_SAMPLES)


def _is_mostly_of_other_scripts(files: list[Path]) -> bool:
    """Whether a sample of the plain-text files is mostly non-ASCII."""
    plain = [file for file in files if file.suffix.lower() not in TEXT_PER_FILE_BYTE]
    sample = b""
    for file in {*plain[:1], *plain[len(plain) // 2 :][:1], *plain[-1:]}:
        with file.open("rb") as stream:
            sample += stream.read(SAMPLE_BYTES)
    return sum(byte >= 0x80 for byte in sample) > MOSTLY_OTHER_SCRIPTS * len(sample)


def _is_fineweb(hub: HubName | None) -> bool:
    """Whether a dataset is FineWeb itself, as text or as tokens. FineWeb-Edu is other text."""
    return hub is not None and (hub.repo == FINEWEB or hub.kind == "tokens")
