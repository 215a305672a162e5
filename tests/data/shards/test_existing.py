"""Sets of tokens that others made: adopted as they stand, and what is said of those that can't be."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from nanofit.common.errors import UserError
from nanofit.data.loading.stream import TokenStream
from nanofit.data.shards.existing import ExistingSet, existing_set
from nanofit.data.shards.existing_file import BLOCK_BYTES, BLOCKS, identity
from nanofit.data.tokenizing.tokenizers import get_tokenizer

TEXT = "The moon is a harsh mistress – ü😀.\n" * 50


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return get_tokenizer("gpt2").encode(TEXT)


def nanogpt(folder: Path, train: np.ndarray, val: np.ndarray) -> Path:
    """As nanoGPT's data/*/prepare.py write it."""
    folder.mkdir(parents=True, exist_ok=True)
    train.astype(np.uint16).tofile(folder / "train.bin")
    val.astype(np.uint16).tofile(folder / "val.bin")
    return folder


def llmc(file: Path, tokens: np.ndarray, magic: int = 20240520, version: int = 1, count: int | None = None) -> None:
    """As llm.c's dev/data/data_common.py writes it."""
    header = np.zeros(256, dtype=np.int32)
    header[:3] = magic, version, len(tokens) if count is None else count
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header.tobytes() + tokens.astype(np.uint16).tobytes())


def found(path: Path) -> ExistingSet:
    result = existing_set(path)
    assert result is not None
    return result


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        found(path).manifest()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is adopted


def test_nanogpts_files(tmp_path: Path, ids: np.ndarray) -> None:
    documents = np.concatenate([ids, [50256], ids[:7], [50256]])
    folder = nanogpt(tmp_path / "owt", documents, ids)
    before = sorted(tmp_path.rglob("*"))
    manifest = found(folder).manifest()
    assert sorted(tmp_path.rglob("*")) == before
    assert (manifest.tokenizer, manifest.is_final) == ("gpt2", True)
    assert [(line.file, line.split, line.header_bytes) for line in manifest.shards] == [
        ("val.bin", "val", 0),
        ("train.bin", "train", 0),
    ]
    assert manifest.tokens("train") == len(documents)
    assert manifest.documents("train") == 2
    assert manifest.text_bytes("val") == len(TEXT.encode())
    assert TokenStream(manifest, "train").read(0, len(documents)).tolist() == documents.tolist()


def test_llmcs_files_in_the_order_of_their_names(tmp_path: Path, ids: np.ndarray) -> None:
    llmc(tmp_path / "fineweb_train_000002.bin", ids[20:])
    llmc(tmp_path / "fineweb_train_000001.bin", ids[:20])
    llmc(tmp_path / "fineweb_val_000000.bin", ids[:9])
    manifest = found(tmp_path).manifest()
    assert [line.file for line in manifest.shards] == [
        "fineweb_val_000000.bin",
        "fineweb_train_000001.bin",
        "fineweb_train_000002.bin",
    ]
    assert TokenStream(manifest, "train").read(0, len(ids)).tolist() == ids.tolist()
    assert manifest.text_bytes("train") == len(TEXT.encode())


def test_llmcs_files_without_a_number(tmp_path: Path, ids: np.ndarray) -> None:
    llmc(tmp_path / "tiny_shakespeare_train.bin", ids)
    llmc(tmp_path / "tiny_shakespeare_val.bin", ids[:9])
    assert found(tmp_path).manifest().tokens("train") == len(ids)


def test_the_file_itself_stands_for_nanogpts_folder(tmp_path: Path, ids: np.ndarray) -> None:
    folder = nanogpt(tmp_path, ids, ids[:9])
    assert existing_set(folder / "train.bin") == existing_set(folder)


def test_a_vocabulary_beside_it_that_is_gpt2s(tmp_path: Path, ids: np.ndarray) -> None:
    folder = nanogpt(tmp_path, ids, ids[:9])
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 50257, "kind": "gpt2"}))
    assert found(folder).manifest().tokens("train") == len(ids)


@pytest.mark.parametrize("name", [".", "a.txt", "missing"])
def test_what_is_no_set(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "model.bin").write_bytes(b"weights")
    assert existing_set(tmp_path / name) is None


def characters(folder: Path, text: str, val: str) -> Path:
    """As nanoGPT's data/shakespeare_char/prepare.py writes it."""
    chars = sorted(set(text + val))
    stoi = {character: token for token, character in enumerate(chars)}
    train_ids, val_ids = (np.array([stoi[each] for each in split]) for split in (text, val))
    nanogpt(folder, train_ids, val_ids)
    meta = {"vocab_size": len(chars), "itos": dict(enumerate(chars)), "stoi": stoi}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    return folder


def test_characters(tmp_path: Path) -> None:
    val = "Ein Mensch – über 月."
    manifest = found(characters(tmp_path, TEXT, val)).manifest()
    assert manifest.tokenizer == "characters"
    assert manifest.made_of["characters"] == "".join(sorted(set(TEXT + val)))
    assert (manifest.tokens("train"), manifest.tokens("val")) == (len(TEXT), len(val))
    # A token is a character, which is one to four bytes of text.
    assert manifest.text_bytes("train") == len(TEXT.encode())
    assert manifest.text_bytes("val") == len(val.encode())


def test_an_id_that_no_character_has(tmp_path: Path) -> None:
    folder = characters(tmp_path, TEXT, "moon")
    size = len(set(TEXT))
    np.array([0, size, 1], dtype=np.uint16).tofile(folder / "val.bin")
    assert f"val.bin holds id {size}, and that of meta.pkl ends at {size - 1}" in refusal(folder)


# What is sampled


def test_a_large_file_is_sampled_evenly(tmp_path: Path) -> None:
    lengths = np.array([len(get_tokenizer("gpt2").token_bytes(token)) for token in range(50256)])
    rng = np.random.default_rng(1)
    train = rng.integers(0, 50256, 3 * BLOCKS * BLOCK_BYTES // 2)
    train[::100] = 50256
    folder = nanogpt(tmp_path, train, train[: BLOCKS * BLOCK_BYTES])
    manifest = found(folder).manifest()
    exact = lengths[train[train < 50256]].sum()
    assert manifest.text_bytes("train") == pytest.approx(exact, rel=0.005)
    assert manifest.documents("train") == pytest.approx(len(train) / 100, rel=0.005)
    # Of validation, nothing is guessed.
    val = train[: BLOCKS * BLOCK_BYTES]
    assert manifest.text_bytes("val") == lengths[val[val < 50256]].sum()


def test_the_identity_changes_with_what_is_sampled_and_with_the_size(tmp_path: Path) -> None:
    tokens = np.zeros(3 * BLOCKS * BLOCK_BYTES // 2, dtype=np.uint16)
    identities = set()
    block_30 = (len(tokens) - BLOCK_BYTES // 2) * 30 // (BLOCKS - 1)
    for at in (None, 0, block_30, len(tokens) - 1):
        changed = tokens.copy()
        if at is not None:
            changed[at] = 1
        identities.add(identity(found(nanogpt(tmp_path, changed, tokens)).files[1]))
    identities.add(identity(found(nanogpt(tmp_path, tokens[:-1], tokens)).files[1]))
    assert len(identities) == 5
    again = nanogpt(tmp_path / "copy", tokens, tokens)
    assert identity(found(again).files[1]) in identities


# What is refused


def test_a_meta_pkl_that_is_no_vocabulary(tmp_path: Path, ids: np.ndarray) -> None:
    folder = nanogpt(tmp_path, ids, ids[:9])
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 65}))
    said = refusal(folder)
    assert f"{folder / 'meta.pkl'} is no vocabulary of characters" in said
    assert f"{folder / 'input.txt'}) as --source, with --tokenizer bytes" in said


@pytest.mark.parametrize(("gone", "split"), [("val.bin", "val"), ("train.bin", "train")])
def test_half_a_set_of_nanogpts(tmp_path: Path, ids: np.ndarray, gone: str, split: str) -> None:
    (nanogpt(tmp_path, ids, ids[:9]) / gone).unlink()
    assert refusal(tmp_path) == f"{tmp_path} holds no {gone}, the {split} split: let its prepare.py run to its end"


def test_half_a_set_of_llmcs(tmp_path: Path, ids: np.ndarray) -> None:
    llmc(tmp_path / "fineweb_train_000001.bin", ids)
    assert "holds no fineweb_val_*.bin" in refusal(tmp_path)


def test_two_sets_in_one_folder(tmp_path: Path, ids: np.ndarray) -> None:
    llmc(tmp_path / "b_train_000001.bin", ids)
    llmc(tmp_path / "a_val_000000.bin", ids)
    assert "holds the shards of a, b: give a folder with one of these sets" in refusal(tmp_path)


def test_one_shard_of_a_set(tmp_path: Path, ids: np.ndarray) -> None:
    llmc(tmp_path / "fineweb_train_000001.bin", ids)
    assert "give the folder that it lies in" in refusal(tmp_path / "fineweb_train_000001.bin")


def test_an_odd_number_of_bytes(tmp_path: Path, ids: np.ndarray) -> None:
    folder = nanogpt(tmp_path, ids, ids[:9])
    (folder / "train.bin").write_bytes((folder / "train.bin").read_bytes()[:-1])
    assert refusal(folder).startswith(f"{folder / 'train.bin'} has an odd number of bytes")


def test_an_empty_file(tmp_path: Path, ids: np.ndarray) -> None:
    assert refusal(nanogpt(tmp_path, ids, ids[:0])) == f"{tmp_path / 'val.bin'} is empty: make it again"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"count": 1000}, "should hold 1,000 tokens and holds 9"),
        ({"version": 2}, "is of version 2 of llm.c's format, nanofit reads 1"),
        ({"magic": 20240801}, "does not begin as a file of llm.c's GPT-2 data does"),
    ],
)
def test_a_header_that_is_wrong(tmp_path: Path, ids: np.ndarray, wrong: dict[str, int], said: str) -> None:
    llmc(tmp_path / "fineweb_train_000001.bin", ids)
    llmc(tmp_path / "fineweb_val_000000.bin", ids[:9], **wrong)
    assert refusal(tmp_path).startswith(f"{tmp_path / 'fineweb_val_000000.bin'} {said}")


def test_a_shard_shorter_than_its_header(tmp_path: Path, ids: np.ndarray) -> None:
    llmc(tmp_path / "fineweb_train_000001.bin", ids)
    llmc(tmp_path / "fineweb_val_000000.bin", ids)
    (tmp_path / "fineweb_val_000000.bin").write_bytes((tmp_path / "fineweb_val_000000.bin").read_bytes()[:100])
    assert "and holds 0: fetch or make it again" in refusal(tmp_path)


@pytest.mark.parametrize("split", ["train", "val"])
def test_ids_beyond_the_vocabulary(tmp_path: Path, ids: np.ndarray, split: str) -> None:
    wrong = np.where(np.arange(len(ids)) == 5, 50257, ids)
    folder = nanogpt(tmp_path, wrong if split == "train" else ids, wrong if split == "val" else ids)
    assert f"{split}.bin holds id 50257, and GPT-2's vocabulary ends at 50256" in refusal(folder)
