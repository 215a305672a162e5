"""Sources on this machine: which files they read, and what they say when there is nothing to read."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nanofit.common.errors import UserError
from nanofit.data.sources.local.kinds import PLAIN_ENDINGS
from nanofit.data.sources.local.sources import TEXT_ENDINGS, open_source
from nanofit.data.sources.local.text_files import _READERS
from public_data import FINEWEB

"""Real rows of FineWeb, kept beside a checkout and not in it."""


def documents(spec: str | Path) -> list[str]:
    """The documents of a source in the order of its files, before they are mixed."""
    return [
        raw.decode()
        for part in open_source(str(spec)).parts
        for documents in part.read(0)
        for raw in documents.texts.to_pylist()
    ]


def refusal(spec: str | Path) -> str:
    with pytest.raises(UserError) as caught:
        documents(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def jsonl(file: Path, *lines: str) -> None:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


# What is no source


def test_every_ending_has_a_reader() -> None:
    assert set(TEXT_ENDINGS) == set(_READERS)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "is empty" in refusal(tmp_path / name)
    assert "is empty" in refusal(tmp_path)


def test_a_folder_without_text(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} holds no file: point --source at text"
    (tmp_path / ".hidden.txt").write_text("hidden")
    for name in ("a.pdf", "b.pdf", "picture.png", "LICENSE"):
        (tmp_path / name).write_bytes(b"...")
    assert refusal(tmp_path) == (
        f"{tmp_path} holds no .txt, .md, .jsonl or .parquet file but 2 .pdf, 1 without an ending and 1 .png: "
        "pdftotext a.pdf a.txt"
    )


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("doc.pdf", "pdftotext doc.pdf doc.txt"),
        ("book.epub", "pandoc -t plain book.epub -o book.txt"),
        ("numbers.csv.gz", "unpack it first"),
        ("settings.json", 'write it as .jsonl, an object with a "text" per line'),
        ("table.arrow", "save it as .parquet"),
        ("main.c", "give it the ending .txt if it is plain text"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, name: str, mend: str) -> None:
    (tmp_path / name).write_bytes(b"...")
    said = refusal(tmp_path / name)
    assert "is not a .txt, .md, .jsonl or .parquet file: " in said
    assert said.endswith(mend)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.txt").chmod(0)
    assert refusal(tmp_path / "a.txt") == f"{tmp_path / 'a.txt'} can't be read: Permission denied"


# Folders


def test_a_folder_is_read_in_the_order_of_its_paths_without_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "z.txt").write_text("last")
    (tmp_path / "b" / "c.txt").write_text("second")
    jsonl(tmp_path / "a.jsonl", '{"text": "first"}')
    (tmp_path / ".git" / "d.txt").write_text("hidden")
    (tmp_path / ".e.txt").write_text("hidden")
    (tmp_path / "notes.md").write_text("# third")
    (tmp_path / "picture.png").write_bytes(b"not read")
    assert documents(tmp_path) == ["first", "second", "# third", "last"]
    source = open_source(str(tmp_path))
    assert (source.endings, source.skipped) == ({".txt": 2, ".jsonl": 1, ".md": 1}, {".png": 1})


@pytest.mark.parametrize("ending", PLAIN_ENDINGS)
def test_plain_text_is_read_whatever_its_ending_is(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"A{ending.upper()}").write_text("text")
    assert documents(tmp_path) == documents(tmp_path / f"A{ending.upper()}") == ["text"]


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "texts"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("here")
    assert documents(folder) == ["here"]


@pytest.mark.parametrize("name", ["book.txt", "book.parquet", "book.jsonl.gz", "book.json.zst"])
def test_a_sources_name_comes_from_its_path(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"...")
    assert open_source(str(tmp_path / name)).name == "book"
    assert open_source(str(tmp_path)).name == tmp_path.name


def test_the_fingerprint_changes_with_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    before = open_source(str(tmp_path)).fingerprint
    assert open_source(str(tmp_path)).fingerprint == before
    (tmp_path / "a.txt").write_text("three")
    edited = open_source(str(tmp_path)).fingerprint
    (tmp_path / "b.txt").write_text("two")
    assert len({before, edited, open_source(str(tmp_path)).fingerprint}) == 3


def test_all_bytes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text\n" * 5000)
    jsonl(tmp_path / "b.jsonl", *['{"text": "some text"}'] * 100, "")
    pq.write_table(pa.table({"text": ["some text"] * 3000}), tmp_path / "c.parquet")
    source = open_source(str(tmp_path))
    assert source.total_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert [chunk.read_bytes for chunk in source.read(None)][-1] == source.total_bytes


# What datasets.save_to_disk writes


def save_to_disk(folder: Path, *files: list[str], state: dict[str, Any] | None = None) -> Path:
    """A dataset as that library (5.2) saves it."""
    folder.mkdir(parents=True)
    names = [f"data-{index:05d}-of-{len(files):05d}.arrow" for index in range(len(files))]
    for name, texts in zip(names, files, strict=True):
        table = pa.table({"text": texts, "id": [*range(len(texts))]})
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    whole = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "e1f2", "_split": "train"}
    (folder / "state.json").write_text(json.dumps(whole | (state or {})))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))
    return folder


def save_splits(folder: Path, *splits: str) -> Path:
    for split in splits:
        save_to_disk(folder / split, [f"text of {split}"])
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    return folder


def test_a_saved_dataset_is_read_in_the_order_that_it_names(tmp_path: Path) -> None:
    folder = save_to_disk(tmp_path / "saved", ["one", "two", "three"], ["four"])
    (folder / "cache-0123.arrow").write_bytes(b"left by a map of that library")
    assert documents(folder) == ["one", "two", "three", "four"]
    source = open_source(str(folder))
    assert source.name == "saved"
    assert source.total_bytes == sum(file.stat().st_size for file in folder.glob("data-*.arrow"))
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"].reverse()
    (folder / "state.json").write_text(json.dumps(state))
    assert documents(folder) == ["four", "one", "two", "three"]
    assert open_source(str(folder)).fingerprint != source.fingerprint


@pytest.mark.parametrize(
    ("splits", "read"),
    [(("train",), "text of train"), (("validation", "train"), "text of train"), (("test",), "text of test")],
)
def test_of_saved_splits_the_one_to_train_on_is_read(tmp_path: Path, splits: tuple[str, ...], read: str) -> None:
    assert documents(save_splits(tmp_path / "saved", *splits)) == [read]


def test_saved_splits_of_which_none_is_to_train_on(tmp_path: Path) -> None:
    folder = save_splits(tmp_path / "saved", "2023", "2024")
    assert refusal(folder) == f"{folder} holds no split 'train' but 2023, 2024: give the folder of one of them"
    assert documents(folder / "2023") == ["text of 2023"]


@pytest.mark.parametrize("key", ["_indices_files", "_indices_data_files"])
def test_a_saved_selection_of_rows(tmp_path: Path, key: str) -> None:
    folder = save_to_disk(tmp_path / "saved", ["a"], state={key: [{"filename": "indices.arrow"}]})
    assert "save it again after dataset.flatten_indices()" in refusal(folder)


def test_a_saved_dataset_of_which_a_part_is_missing(tmp_path: Path) -> None:
    folder = save_splits(tmp_path / "saved", "train")
    file = folder / "train" / "data-00000-of-00001.arrow"
    file.unlink()
    assert refusal(folder).startswith(f"{file} is missing, though state.json beside it names it")
    (folder / "train" / "state.json").unlink()
    assert refusal(folder).startswith(f"{folder / 'train' / 'state.json'} is missing")


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_a_saved_dataset_whose_description_is_damaged(tmp_path: Path, content: str) -> None:
    folder = save_splits(tmp_path / "saved", "train")
    for file in (folder / "train" / "state.json", folder / "dataset_dict.json"):
        file.write_bytes(content.encode("latin-1"))
        assert refusal(folder).startswith(f"{file} is damaged: ")


@pytest.mark.parametrize("name", ["../secret.arrow", "/etc/passwd", "sub/a.arrow", "..", "", 7])
def test_a_saved_dataset_reads_files_of_its_own_folder_only(tmp_path: Path, name: object) -> None:
    secret = save_to_disk(tmp_path / "other", ["secret"])
    (secret / "data-00000-of-00001.arrow").rename(tmp_path / "secret.arrow")
    folder = save_to_disk(tmp_path / "saved", state={"_data_files": [{"filename": name}]})
    assert f"names {name!r}, which is no name in this folder" in refusal(folder)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "dataset_dict.json").write_text(json.dumps({"splits": ["../saved"]}))
    assert "names '../saved', which is no name in this folder" in refusal(tmp_path / "splits")


@pytest.mark.parametrize("content", [{"_data_files": "a"}, {"_data_files": ["a"]}])
def test_a_saved_dataset_whose_files_are_no_list_of_files(tmp_path: Path, content: dict[str, Any]) -> None:
    folder = save_to_disk(tmp_path / "saved", state=content)
    assert "is damaged: _data_files is no list of files" in refusal(folder)


@pytest.mark.parametrize("state", [{"_data_files": []}, {"_data_files": None}])
def test_a_saved_dataset_without_files(tmp_path: Path, state: dict[str, Any]) -> None:
    assert "is empty" in refusal(save_to_disk(tmp_path / "saved", state=state))


# What is on every machine


def test_the_python_source_is_megabytes_of_real_text() -> None:
    texts = documents("python")
    assert sum(len(text.encode()) for text in texts) > 5_000_000
    assert any("class JSONDecoder" in text for text in texts)  # the standard library
    assert any('The "with" statement is used to wrap' in text for text in texts)  # the language reference
    assert not any("class TestMultipleInheritance" in text for text in texts)  # its tests are left out


def test_the_python_source_is_the_same_every_time() -> None:
    first, second = open_source("python"), open_source("python")
    assert (first.name, first.fingerprint) == ("python", second.fingerprint)
    chunks, again = list(first.read(None)), list(second.read(None))
    assert [chunk.texts for chunk in chunks] == [chunk.texts for chunk in again]
    assert chunks[-1].read_bytes == first.total_bytes
    assert [chunk.texts for chunk in second.read(chunks[1].cursor)] == [chunk.texts for chunk in chunks[1:]]


def test_the_python_source_is_read_on_from_any_place() -> None:
    (part,) = open_source("python").parts
    batches = list(part.read(0))
    texts = [text for batch in batches for text in batch.texts.to_pylist()]
    read_bytes = [int(count) for batch in batches for count in batch.read_bytes]
    assert read_bytes[-1] <= part.size
    after = [int(place) for batch in batches for place in batch.after]
    for index in (0, len(texts) // 2, len(texts) - 2):
        rest = list(part.read(after[index]))
        assert [text for batch in rest for text in batch.texts.to_pylist()] == texts[index + 1 :]
        assert [int(count) for batch in rest for count in batch.read_bytes] == read_bytes[index + 1 :]


@pytest.mark.skipif(not FINEWEB.is_dir(), reason="no sample of FineWeb beside this checkout")
@pytest.mark.parametrize(("name", "rows"), [("sample_a.parquet", 10), ("sample_b.parquet", 15)])
def test_real_fineweb_files_are_read(name: str, rows: int) -> None:
    texts = documents(FINEWEB / name)
    assert texts == pq.read_table(FINEWEB / name, columns=["text"])["text"].to_pylist()
    assert len(texts) == rows
