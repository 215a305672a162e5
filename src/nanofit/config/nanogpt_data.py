"""What lies in nanoGPT's folders data/NAME: which of them a `dataset` means, and the vocabulary that its tokens have. No torch.

Character-level data brings its vocabulary in `meta.pkl`. A pickle can run any code when it is loaded, so this one is not: its
opcodes are read one by one, those that build dictionaries, lists, strings and whole numbers are followed, and any other
refuses the file.
"""

from pathlib import Path
from typing import Any

from nanofit.common.durable import require_regular
from nanofit.common.errors import UserError
from nanofit.config.vocabulary import CHARACTERS, VOCABULARIES

META_NAME, TRAIN_NAME = "meta.pkl", "train.bin"

OUR_MANIFEST = "manifest.jsonl"
"""In a folder of nanofit's own shards: it names their tokenizer."""

MAX_BYTES = 2**22
"""Of a meta.pkl. A vocabulary of 65,536 characters, the most that uint16 holds, takes 1.1 to 2.5 MB. One of 16 MB that is made to
harm took 26 s and 1.2 GiB."""

MAX_CHARACTERS = 2**16


def prefer_local_dataset(values: dict[str, Any], file: Path | None = None) -> dict[str, Any]:
    """`values` with the folder data/NAME for a `dataset` NAME that lies there prepared: in the current folder, or beside the
    folder `config` in which `file` lies."""
    if not isinstance(values.get("dataset"), str):
        return values
    roots = [Path()]
    if file is not None and file.resolve().parent.name == "config":
        roots.append(file.resolve().parents[1])
    folders = [root / "data" / values["dataset"] for root in roots]
    local = next((folder for folder in folders if holds_training_tokens(folder)), None)
    return values if local is None else values | {"dataset": str(local)}


TOKEN_FILES = ("*.bin", "*.ds", "train/*.ds", "val/*.ds")
"""What nanoGPT and llm.c, and datatrove, call files of tokens in a folder of theirs."""


def holds_files_of_tokens(folder: Path) -> bool:
    """Whether a file in `folder` has a name that may be one of tokens: whether they are is found when they are opened."""
    return any(any(folder.glob(pattern)) for pattern in TOKEN_FILES)


def holds_training_tokens(folder: Path) -> bool:
    """Whether `folder` holds what nanoGPT's prepare.py writes (train.bin), what the download scripts of llm.c and
    modded-nanogpt write (NAME_train_000001.bin), or what datatrove's DocumentTokenizer writes (NAME.ds)."""
    return (folder / TRAIN_NAME).is_file() or any(
        any(folder.glob(pattern)) for pattern in ("*_train*.bin", "*.ds", "train/*.ds")
    )


def with_vocabulary_of_source(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's flat `values` with the vocabulary of its source, where that is tokens of nanoGPT's, llm.c's or datatrove's and the
    values give none.

    Raises UserError where the source's meta.pkl is no vocabulary.
    """
    source = values.get("source", values.get("dataset"))
    given = values.get("tokenizer")
    if not isinstance(source, str) or given not in (None, CHARACTERS) or values.get("characters") is not None:
        return values
    path = Path(source).expanduser()
    folder = path.parent if path.suffix == ".bin" else path
    if not holds_training_tokens(folder) or (folder / OUR_MANIFEST).exists():
        return values
    meta = folder / META_NAME
    characters = read_characters(meta) if meta.is_file() and (folder / TRAIN_NAME).is_file() else None
    if characters is not None:
        return values | {"tokenizer": CHARACTERS, "characters": characters}
    return values if given is not None else values | {"tokenizer": "gpt2"}


def read_characters(meta: Path) -> str | None:
    """The characters of `meta` in the order of their ids; None where it names GPT-2's vocabulary. Raises UserError for
    anything else."""
    try:
        raw = require_regular(meta).read_bytes() if meta.stat().st_size <= MAX_BYTES else None
        if raw is None:
            raise _Unreadable(f"it has more than {MAX_BYTES:,} bytes")
        return _characters(_plain_values(raw))
    except OSError as error:
        raise UserError(f"{meta} can't be read: {error.strerror or error}") from None
    except _Unreadable as problem:
        raise UserError(
            f"{meta} is no vocabulary of characters as nanoGPT's prepare.py writes it ({problem}): give the text that it "
            f"was made of (there it is {meta.with_name('input.txt')}) as --source, with --tokenizer bytes"
        ) from None


class _Unreadable(Exception):
    """What is wrong with a meta.pkl."""


def _characters(meta: Any) -> str | None:
    if not isinstance(meta, dict):
        raise _Unreadable("it is no dictionary")
    size, itos, stoi = meta.get("vocab_size"), meta.get("itos"), meta.get("stoi")
    if size == VOCABULARIES["gpt2"].size:
        return None
    if itos is None and isinstance(stoi, dict):
        itos = {token: character for character, token in stoi.items()}
    spelled = dict(enumerate(itos)) if isinstance(itos, list) else itos
    if not isinstance(spelled, dict) or not spelled:
        raise _Unreadable("it names no characters, in `itos` or `stoi`")
    if size not in (None, len(spelled)) or spelled.keys() != set(range(len(spelled))):
        raise _Unreadable("its ids are not 0, 1, 2 ... up to vocab_size")
    characters = [spelled[token] for token in range(len(spelled))]
    if not all(isinstance(each, str) and len(each) == 1 for each in characters):
        raise _Unreadable("an id stands for more than one character")
    if len(set(characters)) < len(characters) or len(characters) > MAX_CHARACTERS:
        raise _Unreadable("a character has two ids, or there are more than uint16 holds")
    if any("\ud800" <= each <= "\udfff" for each in characters):
        raise _Unreadable("it holds half of a UTF-16 pair, which is no character")
    return "".join(characters)


_MARK = object()

_INTEGERS = ("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4")
_STRINGS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
"""Opcodes that push their argument."""


def _plain_values(raw: bytes) -> Any:
    """What the pickle `raw` holds, if that is dictionaries, lists, strings and whole numbers."""
    import pickletools  # here, because commands that only answer start sooner without it

    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(raw):
            name: str = opcode.name
            if name in _INTEGERS or name in _STRINGS:
                stack.append(argument)
                continue
            match name:
                case "PROTO" | "FRAME":
                    pass
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "MARK":
                    stack.append(_MARK)
                case "DICT":
                    items = _since_mark(stack)
                    stack.append(dict(zip(items[::2], items[1::2], strict=True)))
                case "LIST":
                    stack.append(_since_mark(stack))
                case "SETITEM":
                    value = stack.pop()
                    key = stack.pop()
                    stack[-1][key] = value
                case "SETITEMS":
                    items = _since_mark(stack)
                    stack[-1].update(zip(items[::2], items[1::2], strict=True))
                case "APPEND":
                    value = stack.pop()
                    stack[-1].append(value)
                case "APPENDS":
                    items = _since_mark(stack)
                    stack[-1].extend(items)
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "STOP":
                    return stack[-1]
                case _:
                    raise _Unreadable(f"it holds more than plain values, pickle's {name}")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise _Unreadable("it is damaged, or no pickle") from None
    raise _Unreadable("it is cut off")


def _since_mark(stack: list[Any]) -> list[Any]:
    """Takes off what lies above the last mark, and the mark."""
    begin = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[begin + 1 :]
    del stack[begin:]
    return items
