"""Tokens that datatrove's DocumentTokenizer and DocumentTokenizerMerger wrote, as datatrove 0.10.1 writes them
(pipeline/tokens/tokenizer.py): `plan`, `train` and `eval` read these files where they lie, and nothing is written beside them.

- `NAME.ds`: nothing but tokens, uint16; uint32 for a vocabulary of more than 65,536 ids
- `NAME.ds.index`: where each document ends, in tokens, uint64. datatrove writes it last, so a file without one is not finished
- `NAME.ds.metadata`, where there is one: `TOKENIZER|BYTES_PER_TOKEN`, then the number of tokens
- `NAME.ds.loss`: a byte per token, 0 for those that the loss should leave out; nanofit refuses it

The order of tokens is that of the files' names. A folder without splits has its last documents held out as validation; a folder
with the folders `train` and `val` has the splits that its user made.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nanofit.common.durable import require_regular
from nanofit.common.errors import UserError
from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.shards.existing_file import ExistingFile
from nanofit.data.tokenizing.tokenizers import get_tokenizer

if TYPE_CHECKING:
    from nanofit.data.shards.manifest_line import Split

PATTERN = "*.ds"

MAX_VAL_TOKENS = 10_485_760
"""Tokens held out, at most: as many as the community's validation set of FineWeb has."""

MAX_VAL_SHARE = 0.1

STEPS = ("_unshuffled.ds", "_doc_shuffled.ds", "_chunk_shuffled.ds")
"""How datatrove ends the names of files that hold the same documents: each step's result replaces the one before."""

CHECKED_DOCUMENTS = 16
CHECKED_TOKENS = 2**13
"""Of a document that is compared with GPT-2's tokenizer, at most: about 35 kB of text, 4 ms."""

VALIDATION = "the last documents of this set"


@dataclass(frozen=True)
class _DocumentFile:
    """A `.ds` file of at least one token. `ends`: where its documents end, in tokens, uint64, read when it is looked at."""

    path: Path
    tokens: int
    ends: np.ndarray


def datatrove_files(folder: Path) -> tuple[ExistingFile, ...]:
    """The files of the set in `folder`, validation first; none where datatrove wrote nothing there.

    Raises UserError for a set that is not finished, is damaged, masks its loss, or is not of GPT-2's tokenizer.
    """
    files = _document_files(folder)
    if files:
        _require_gpt2(files[0])
        return _with_validation(files)
    splits: dict[Split, list[_DocumentFile]] = {split: _document_files(folder / split) for split in ("val", "train")}
    if not any(splits.values()):
        return ()
    for split, files in splits.items():
        if not files:
            raise UserError(
                f"{folder / split} holds no tokens ({PATTERN}): write that split there, or give the other folder alone"
            )
        _require_gpt2(files[0])
    return tuple(ExistingFile(file.path, split, file.tokens, 0) for split, files in splits.items() for file in files)


def _document_files(folder: Path) -> list[_DocumentFile]:
    files = [file for path in sorted(folder.glob(PATTERN)) if (file := _document_file(path)) is not None]
    steps = [step for step in STEPS if any(file.path.name.endswith(step) for file in files)]
    if len(steps) > 1:
        raise UserError(f"{folder} holds the same documents as *{' and *'.join(steps)}: remove all but *{steps[-1]}")
    return files


def _document_file(path: Path) -> _DocumentFile | None:
    """The file at `path`; None for one of a task that had no documents."""
    index, loss = Path(f"{path}.index"), Path(f"{path}.loss")
    if loss.exists():
        raise UserError(
            f"{loss} leaves tokens out of the loss, which nanofit does not: remove the .loss files to train on every token"
        )
    if not index.exists():
        raise UserError(f"{path} has no {index.name}: run its pipeline to its end, with save_index=True")
    size = require_regular(path).stat().st_size
    if require_regular(index).stat().st_size < 8:
        ends = np.zeros(0, dtype="<u8")
    else:
        ends = np.memmap(index, dtype="<u8", mode="r", shape=(index.stat().st_size // 8,))
    last = int(ends[-1]) if len(ends) else 0
    if last and size == 4 * last:
        raise UserError(f"{path} has 4 bytes per token{_made_with(path)}: nanofit reads tokens of GPT-2, which take 2")
    if size != 2 * last or index.stat().st_size % 8:
        raise UserError(
            f"{path} holds {size / 2:,.10g} tokens, and the last document of {index.name} ends at {last:,}: one of them is cut off; "
            "run the pipeline's task again"
        )
    return _DocumentFile(path, last, ends) if last else None


def _made_with(path: Path) -> str:
    """The tokenizer that the metadata names, as the end of a clause; "" where there is none."""
    metadata = Path(f"{path}.metadata")
    if not metadata.is_file():
        return ""
    with metadata.open(encoding="utf-8", errors="replace") as stream:
        name = stream.readline(1000).strip().rpartition("|")[0]
    return f" (made with {name})" if name else ""


def _require_gpt2(file: _DocumentFile) -> None:
    """Raises UserError unless documents end with GPT-2's separator and GPT-2's tokenizer gives most of a sample the same tokens.

    Names can't tell: the tokenizer may come from a file. Text cut by shuffle_chunk_size or by a loss mask may differ at its ends.
    """
    tokens = np.memmap(file.path, dtype="<u2", mode="r")
    separator = VOCABULARIES["gpt2"].separator
    borders = [0, *np.minimum(file.ends[:CHECKED_DOCUMENTS], file.tokens).astype(np.int64).tolist()]
    documents = [tokens[begin:end] for begin, end in pairwise(borders) if end > begin]
    ended = [document for document in documents if document[-1] == separator]
    if not ended:
        raise UserError(
            f"{file.path} has no <|endoftext|> (id {separator}) at the end of its first documents{_made_with(file.path)}: make it again "
            "with tokenizer_name_or_path='gpt2' and eos_token='<|endoftext|>'"
        )
    whole = [document[:-1] for document in ended if len(document) <= CHECKED_TOKENS]
    if 2 * sum(map(_is_gpt2s, whole)) < len(whole):
        raise UserError(
            f"{file.path} has other tokens than GPT-2's tokenizer gives its text{_made_with(file.path)}: make it again "
            "with tokenizer_name_or_path='gpt2'"
        )


def _is_gpt2s(document: np.ndarray) -> bool:
    """Whether GPT-2's tokenizer gives the text of a document, without its separator, the same tokens."""
    tokenizer = get_tokenizer("gpt2")
    if document.max(initial=0) >= tokenizer.vocabulary.size:
        return False
    text = b"".join(map(tokenizer.token_bytes, document.tolist())).decode("utf-8", errors="replace")
    return np.array_equal(tokenizer.encode(text), document)


def _with_validation(files: list[_DocumentFile]) -> tuple[ExistingFile, ...]:
    """`files` with their last documents as validation, at most MAX_VAL_TOKENS and at most MAX_VAL_SHARE of the tokens."""
    held_out = min(MAX_VAL_TOKENS, int(MAX_VAL_SHARE * sum(file.tokens for file in files)))
    val: list[ExistingFile] = []
    train: list[ExistingFile] = []
    for file in reversed(files):
        cut = _end_of_training(file, held_out)
        held_out = held_out - file.tokens if cut == 0 else 0  # earlier files are training alone
        if cut < file.tokens:
            val.insert(0, ExistingFile(file.path, "val", file.tokens - cut, 2 * cut))
        if cut > 0:
            train.insert(0, ExistingFile(file.path, "train", cut, 0))
    return (*val, *train)


def _end_of_training(file: _DocumentFile, held_out: int) -> int:
    """The first end of a document that leaves at most `held_out` tokens after it; 0 where the whole file may be held out."""
    if file.tokens <= held_out:
        return 0
    return min(int(file.ends[np.searchsorted(file.ends, file.tokens - held_out)]), file.tokens)
