"""Verifying: every kind of damage is seen, what is bad is redone from its source, and nothing else is touched."""

import itertools
import json
import shlex
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub_server import LocalHub, fineweb_repo
from nanofit.common.errors import UserError
from nanofit.common.events import Event, Verifying, silent
from nanofit.common.locks import exclusive
from nanofit.data.preparing import encode_pipeline as writing
from nanofit.data.preparing import verify
from nanofit.data.preparing.prepare import prepare
from nanofit.data.preparing.resolve import Request
from nanofit.data.preparing.verify import Verified
from nanofit.data.shards import shard_files as shards
from nanofit.data.shards.manifest import MANIFEST_NAME, read_manifest
from nanofit.data.sources.hub import retry
from nanofit.data.tokenizing.engines import Encoded, reference_engine
from nanofit.data.tokenizing.tokenizers import get_tokenizer
from small_sets import set_shard_tokens

WORDS = ["the", "moon", "is", "very", "far", "away", "and", "nobody", "goes", "there", "on", "foot", "naïve", "月"]


def text_of(number: int) -> str:
    return " ".join(WORDS[number * step % len(WORDS)] for step in range(1, 40 + number % 50)) + f". ({number})\n"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    def size(split: str, index: int) -> int:
        return min(2000 << max(index - 1, 0), 8000)

    set_shard_tokens(monkeypatch, size)
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = [json.dumps({"text": text_of(number)}) for number in range(180)]
    (folder / "a.jsonl").write_text("\n".join(lines[:120]))
    (folder / "b.jsonl").write_text("\n".join(lines[120:]))
    return folder


def prepared(source: Path | str, folder: Path, tokenizer: str = "bytes", most_tokens: int | None = None) -> Path:
    val_tokens = 3000
    prepare(
        Request(str(source), tokenizer, val_tokens=val_tokens, most_tokens=most_tokens, folder=folder, block_size=64),
        silent,
    )
    return folder


@pytest.fixture
def folder(texts: Path, tmp_path: Path) -> Path:
    """A set of four shards of training and one of validation at least."""
    folder = prepared(texts, tmp_path / "set")
    assert len(read_manifest(folder).of("train")) >= 4
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith(".")}


def stamps(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in folder.iterdir()}


def run(folder: Path, *, repair: bool = True) -> Verified:
    return verify.verify(folder, silent, repair=repair)


def shard(folder: Path, number: int = 1) -> Path:
    """The `number`-th shard of training, counted from 0."""
    return folder / read_manifest(folder).of("train")[number].file


def change_byte(file: Path, at: int) -> None:
    raw = bytearray(file.read_bytes())
    raw[at] ^= 1
    file.write_bytes(raw)


def change_line(folder: Path, number: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes what line `number` of the manifest says, from 0 on."""
    lines = (folder / MANIFEST_NAME).read_text().splitlines()
    values = json.loads(lines[number])
    change(values)
    lines[number] = json.dumps(values)
    (folder / MANIFEST_NAME).write_text("\n".join(lines) + "\n")


def swap(folder: Path) -> None:
    first, second = shard(folder, 2), shard(folder, 3)
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a byte is flipped": (lambda folder: change_byte(shard(folder), 1500), "sha256"),
    "the first shard's last byte": (lambda folder: change_byte(shard(folder, 0), -1), "sha256"),
    "the last shard": (lambda folder: change_byte(shard(folder, -1), 1100), "sha256"),
    "validation": (lambda folder: change_byte(folder / read_manifest(folder).of("val")[0].file, 1100), "sha256"),
    "a shard is cut off": (lambda folder: shard(folder).write_bytes(shard(folder).read_bytes()[:-50]), "bytes, and"),
    "a shard is empty": (lambda folder: shard(folder).write_bytes(b""), "0 bytes, and"),
    "a shard is gone": (lambda folder: shard(folder).unlink(), "is missing"),
    "a header says something else": (lambda folder: change_byte(shard(folder), 8), "does not begin as a shard"),
    "a header's rest": (lambda folder: change_byte(shard(folder), 900), "sha256"),
    "two shards are swapped": (swap, "sha256"),
    "a sidecar is altered": (lambda folder: change_byte(shards.starts_file(shard(folder)), 1030), "separators"),
    "a sidecar is cut off": (lambda folder: shards.starts_file(shard(folder)).write_bytes(b"x"), "separators"),
    "a sidecar is gone": (lambda folder: shards.starts_file(shard(folder)).unlink(), "is missing"),
}


@pytest.mark.parametrize(("damage", "problem"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_seen_and_mended(folder: Path, damage: Callable[[Path], Any], problem: str) -> None:
    before = content(folder)
    damage(folder)
    damaged, inodes = content(folder), stamps(folder)
    assert before != damaged
    seen = run(folder, repair=False)
    assert not seen.is_good
    assert all(problem in bad.problem and not bad.is_mended for bad in seen.bad)
    assert content(folder) == damaged

    mended = run(folder)
    assert mended.is_good
    assert [(bad.file, bad.problem) for bad in mended.bad] == [(bad.file, bad.problem) for bad in seen.bad]
    assert content(folder) == before
    assert run(folder).bad == ()
    # Nothing is made again but what was bad: a sidecar, or a shard with its sidecar.
    bad_files = {bad.file for bad in seen.bad}
    redone = bad_files | {shards.starts_file(Path(file)).name for file in bad_files}
    assert {file for file, inode in stamps(folder).items() if inodes.get(file) != inode} <= redone


def test_a_good_set_is_good(folder: Path) -> None:
    said: list[Event] = []
    verified = verify.verify(folder, said.append)
    assert verified.is_good
    assert (verified.bad, verified.leftovers) == ((), ())
    manifest = read_manifest(folder)
    assert verified.read_bytes == sum(2 * line.tokens for line in manifest.shards)
    # All documents of shards this small, and what of a document that began before stands at the beginning of some.
    assert verified.sampled_documents >= sum(line.documents for line in manifest.shards)
    last = said[-1]
    assert isinstance(last, Verifying)
    assert last.done_bytes == verified.read_bytes


@pytest.mark.parametrize("most_tokens", [None, 9000])
def test_a_damaged_manifest_is_cut_back_to_its_last_good_line_and_prepare_completes_the_set(
    texts: Path, tmp_path: Path, most_tokens: int | None
) -> None:
    whole = prepared(texts, tmp_path / "whole", most_tokens=most_tokens)
    lines = (whole / MANIFEST_NAME).read_bytes().splitlines(keepends=True)
    for number in range(1, len(lines)):
        folder = tmp_path / f"set{number}"
        folder.mkdir()
        for file, raw in content(whole).items():
            (folder / file).write_bytes(raw)
        damaged = b"".join([*lines[:number], b'{"file": \xff\n', *lines[number + 1 :]])
        (folder / MANIFEST_NAME).write_bytes(damaged)
        with pytest.raises(UserError, match=rf"line {number + 1} is damaged .*: nanofit data verify .*set{number}"):
            read_manifest(folder)
        seen = run(folder, repair=False)
        assert [(bad.file, bad.is_mended, bad.is_cut_back) for bad in seen.bad] == [(MANIFEST_NAME, False, False)]
        assert seen.next_step == ""
        cut = run(folder)
        (bad,) = cut.bad
        assert bad.problem == f"line {number + 1} is damaged (it is not valid JSON)"
        kept = read_manifest(folder).shards
        assert bad.how.startswith(f"cut back to the {len(kept)} shard{'s' * (len(kept) != 1)} before it")
        assert (folder / MANIFEST_NAME).read_bytes() == b"".join(lines[:number])
        assert (folder / f"{MANIFEST_NAME}.damaged").read_bytes() == damaged
        # It says that the set is not complete and what completes it, and calls no file of it superfluous.
        assert not cut.is_good
        asked = [] if most_tokens is None else ["--tokens", str(most_tokens)]
        given = ["nanofit", "data", "prepare", str(texts), "--tokenizer", "bytes", *asked, "--out", str(folder)]
        assert cut.next_step == f"{shlex.join(given)} makes the missing shards"
        assert cut.leftovers == ()
        again = run(folder)
        assert (again.bad, again.next_step) == ((), cut.next_step)
        prepared(texts, folder, most_tokens=most_tokens)
        assert {name: raw for name, raw in content(folder).items() if not name.endswith(".damaged")} == content(whole)


@pytest.mark.parametrize("field", ["documents", "text_bytes", "starts_sha256"])
def test_a_line_that_miscounts_its_shard_is_cut_back_to(folder: Path, texts: Path, field: str) -> None:
    before = content(folder)
    change_line(folder, 2, lambda line: line.update({field: "0" if field == "starts_sha256" else 3}))
    (bad,) = run(folder).bad
    assert "its counts in the manifest are not what it holds" in bad.problem
    assert bad.is_cut_back
    assert len(read_manifest(folder).shards) == 1
    prepared(texts, folder)
    assert {name: raw for name, raw in content(folder).items() if not name.endswith(".damaged")} == before


@pytest.mark.parametrize("damage", [{"sha256": "0" * 64}, {"tokens": 3999}])
def test_a_line_with_another_shard_than_the_source_makes_is_left_as_it_is(folder: Path, damage: dict[str, Any]) -> None:
    change_line(folder, 2, lambda line: line.update(damage))
    before = content(folder)
    (bad,) = run(folder).bad
    assert not bad.is_mended
    assert "made again, is not what the manifest says either" in bad.how
    assert content(folder) == before


def test_without_its_first_line_a_manifest_is_left_as_it_is(folder: Path) -> None:
    lines = (folder / MANIFEST_NAME).read_text().splitlines(keepends=True)
    (folder / MANIFEST_NAME).write_text("".join(["x\n", *lines[1:]]))
    before = content(folder)
    verified = run(folder)
    assert [(bad.is_mended, bad.is_cut_back) for bad in verified.bad] == [(False, False)]
    assert "nothing says what the set was made of" in verified.bad[0].how
    assert content(folder) == before


def test_without_the_source_it_says_so(folder: Path, texts: Path) -> None:
    change_byte(shard(folder), 1500)
    shards.starts_file(shard(folder, 2)).unlink()
    texts.rename(texts.with_name("gone"))
    bad, sidecar = run(folder).bad
    assert sidecar.is_mended
    assert sidecar.how == "made again from the shard"
    assert not bad.is_mended
    assert f"no source '{texts}'" in bad.how


def test_a_source_that_changed_is_not_taken_for_the_old_one(folder: Path, texts: Path) -> None:
    change_byte(shard(folder), 1500)
    (texts / "c.jsonl").write_text(json.dumps({"text": "one more"}))
    before = content(folder)
    (bad,) = run(folder).bad
    assert not bad.is_mended
    assert "has changed since" in bad.how
    assert content(folder) == before


def test_what_comes_out_otherwise_is_refused(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source's state is the same and its text is not: a file that was written over within a clock's tick."""
    folder = prepared(texts, tmp_path / "set", "gpt2")
    change_byte(shard(folder), 1500)
    before = content(folder)

    class Other:
        name = "gpt2 of other letters"

        def encode(self, texts: list[str]) -> Encoded:
            return reference_engine("gpt2").encode([text.replace("moon", "noon") for text in texts])

    monkeypatch.setattr("nanofit.data.preparing.prepare.fast_engine", lambda tokenizer, report: Other())
    monkeypatch.setattr(writing.TokenizerSpotCheck, "agrees", lambda *given: True)
    (bad,) = run(folder).bad
    assert not bad.is_mended
    assert "made again, is not what the manifest says either" in bad.how
    assert content(folder) == before


def test_leftovers_are_named(folder: Path) -> None:
    for name in ("texts_train_000099.bin", "texts_train_000100.bin.tmp", "texts_train_000099.starts"):
        (folder / name).write_bytes(b"x")
    verified = run(folder)
    assert verified.is_good
    assert verified.leftovers == (
        "texts_train_000099.bin",
        "texts_train_000099.starts",
        "texts_train_000100.bin.tmp",
    )


def test_a_set_that_is_being_prepared(folder: Path) -> None:
    lines = (folder / MANIFEST_NAME).read_bytes().splitlines(keepends=True)
    (folder / MANIFEST_NAME).write_bytes(b"".join(lines[:-2]) + lines[-2][:20])
    with exclusive(folder, "preparing"):
        verified = run(folder)
        assert verified.is_good
        assert verified.leftovers == ()
        change_byte(shard(folder), 1500)
        assert not run(folder, repair=False).is_good
        with pytest.raises(UserError, match=r"is in use by process \d+"):
            run(folder)


def test_a_folder_without_shards(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no shards"):
        run(tmp_path)


def test_a_set_of_an_older_nanofit(folder: Path) -> None:
    """It has neither sidecars nor cursors, and does not say what it was made of."""
    manifest = folder / MANIFEST_NAME
    values = [json.loads(line) for line in manifest.read_text().splitlines()]
    known = ("file", "split", "sha256", "tokens", "documents", "text_bytes", "source", "tokenizer", "format_version")
    old = [{key: line[key] for key in known if key in line} for line in values[1:-1]] + [values[-1]]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in old))
    for sidecar in folder.glob("*.starts"):
        sidecar.unlink()
    assert run(folder).bad == ()
    change_byte(shard(folder), 1500)
    (bad,) = run(folder).bad
    assert not bad.is_mended
    assert "does not say what it was made of" in bad.how


# Tokens that the reference would not have made


def test_tokens_of_a_wrong_engine_are_seen_and_left_as_they_are(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong:
        name = "wrong 1"

        def encode(self, texts: list[str]) -> Encoded:
            """Spells the separator's neighbour of each document in single bytes."""
            tokenizer = get_tokenizer("gpt2")
            spelled = {tokenizer.token_bytes(token): token for token in range(256)}
            documents = [[50256, *(spelled[bytes([byte])] for byte in text.encode())] for text in texts]
            starts = np.cumsum([0, *map(len, documents)], dtype=np.int64)[:-1]
            return Encoded(np.array([*itertools.chain(*documents)], dtype=np.uint16), starts)

    with monkeypatch.context() as patch:
        patch.setattr(writing.TokenizerSpotCheck, "agrees", lambda *given: True)
        patch.setattr("nanofit.data.preparing.prepare.fast_engine", lambda tokenizer, report: Wrong())
        folder = prepared(texts, tmp_path / "set", "gpt2")
    before = content(folder)
    verified = run(folder)
    assert len(verified.bad) == len(read_manifest(folder).shards)
    for bad in verified.bad:
        assert (bad.problem, bad.is_mended) == ("has other tokens than the reference gives its text", False)
        assert "holds what wrong 1 wrote" in bad.how
        assert "prepare the set again in another folder" in bad.how
    assert content(folder) == before


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, nothing is tidied up."""


@pytest.mark.parametrize("dies_after", range(0, 8, 2))
def test_death_while_repairing_leaves_what_is_repaired_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, dies_after: int
) -> None:
    before = content(folder)
    change_byte(shard(folder), 1500)
    calls = itertools.count()
    replace = Path.replace

    def deadly(self: Path, target: Path) -> Path:
        if next(calls) == dies_after:
            raise Killed
        return replace(self, target)

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(Path, "replace", deadly)
        run(folder)
    assert run(folder).is_good
    assert content(folder) == before


def test_an_id_beyond_the_vocabulary(tmp_path: Path) -> None:
    """In a set of somebody else, of which there is nothing to make it of again."""
    for name, tokens in (("train.bin", [5] * 2_999_999 + [50257] + [5] * 2_999_999), ("val.bin", [5] * 3000)):
        (tmp_path / name).write_bytes(np.array(tokens, dtype="<u2").tobytes())
    (bad,) = run(tmp_path).bad
    assert (bad.file, bad.is_mended) == ("train.bin", False)
    assert "has the id 50257" in bad.problem


def test_a_set_of_somebody_else_is_only_read(tmp_path: Path) -> None:
    for name in ("train.bin", "val.bin"):
        (tmp_path / name).write_bytes(np.arange(3000, dtype="<u2").tobytes())
    verified = run(tmp_path)
    assert (verified.bad, verified.read_bytes, verified.sampled_documents) == ((), 12_000, 0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["train.bin", "val.bin"]


# Sets of the hub


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.0)


@pytest.fixture
def fineweb(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    texts = {
        f"sample/10BT/{number:03d}_00000.parquet": [text_of(100 * number + index) for index in range(90)]
        for number in range(2)
    }
    with LocalHub({"HuggingFaceFW/fineweb": fineweb_repo(tmp_path / "repo", texts)}) as hub:
        hub.only_one(monkeypatch)
        yield hub


@pytest.mark.parametrize("most_tokens", [None, 9000])
def test_a_shard_of_the_hub_is_made_again(fineweb: LocalHub, tmp_path: Path, most_tokens: int | None) -> None:
    folder = prepared("fineweb:sample-10BT", tmp_path / "set", most_tokens=most_tokens)
    before = content(folder)
    lines = read_manifest(folder).shards
    assert run(folder).bad == ()
    for line in lines:
        change_byte(folder / line.file, 1500)
        verified = run(folder)
        assert [(bad.file, bad.how) for bad in verified.bad] == [(line.file, "made again from the source")]
        assert content(folder) == before
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set()


def test_a_hub_that_does_not_answer(fineweb: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepared("fineweb:sample-10BT", tmp_path / "set", most_tokens=9000)
    monkeypatch.setattr("nanofit.data.sources.hub.client.Hub.__init__", _unreachable)
    change_byte(shard(folder), 1500)
    change_byte(shard(folder, 2), 1500)
    assert [(bad.is_mended, bad.how) for bad in run(folder).bad] == [(False, "no answer")] * 2


def _unreachable(self: Any, *given: Any, **more: Any) -> None:
    raise UserError("no answer")


def test_a_shard_that_was_only_fetched_is_fetched_again(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    stream = reference_engine("gpt2").encode([text_of(number) for number in range(400)]).tokens
    names = ["fineweb_val_000000.bin", *(f"fineweb_train_{number:06d}.bin" for number in (1, 2, 3))]
    for name, tokens in zip(names, np.array_split(stream, 4), strict=True):
        head = struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253)
        (repo / name).write_bytes(head + tokens.astype("<u2").tobytes())
    with LocalHub({"kjj0/fineweb10B-gpt2": repo}) as hub:
        hub.only_one(monkeypatch)
        folder = prepared("kjj0/fineweb10B-gpt2", tmp_path / "set", "gpt2")
        before = content(folder)
        assert run(folder).bad == ()
        change_byte(folder / names[2], 1500)
        shards.starts_file(folder / names[1]).unlink()
        hub.replace("kjj0/fineweb10B-gpt2", fineweb_repo(tmp_path / "new", {"a.parquet": ["x"]}))
        verified = run(folder)
        assert {bad.how for bad in verified.bad} == {"made again from the shard", "fetched again"}
        assert content(folder) == before


# What a set must not reach


@pytest.mark.parametrize("field", ["file", "source"])
@pytest.mark.parametrize("number", [1, -2])
def test_a_manifest_that_names_foreign_files_touches_none_of_them(
    folder: Path, tmp_path: Path, field: str, number: int
) -> None:
    """The line counts as damaged: the set is cut back to before it."""
    victim = tmp_path / "victim"
    victim.mkdir()
    before = content(folder)
    for name in ("x.bin", "x.starts", "x_train_000003.bin", "x_val_000000.bin", "x_train_000003.bin.tmp"):
        (victim / name).write_bytes(b"precious")
    for foreign in ("../victim/x.bin", str(victim / "x"), str(victim / "x.bin")):
        change_line(folder, number, lambda line, foreign=foreign: line.update({field: foreign}))
        with pytest.raises(
            UserError, match=rf"manifest.jsonl, line \d+ is damaged \({field} is .*{victim.name}.*data verify"
        ):
            read_manifest(folder)
        run(folder, repair=False)
        run(folder)
        assert {file.read_bytes() for file in victim.iterdir()} == {b"precious"}
        assert len(list(victim.iterdir())) == 5
        prepared(tmp_path / "texts", folder)
        (folder / f"{MANIFEST_NAME}.damaged").unlink()
        assert content(folder) == before


def test_links_that_are_planted_in_a_set_are_not_followed(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "folder").mkdir(parents=True)
    file = victim / "file"
    file.write_bytes(b"precious")
    before = content(folder)
    named = shard(folder)
    change_byte(named, 1500)
    shards.starts_file(named).unlink()
    shards.starts_file(named).symlink_to(file)
    copies = (f"{MANIFEST_NAME}.tmp", f"{MANIFEST_NAME}.damaged", f"{MANIFEST_NAME}.damaged.tmp")
    for name in (f"{named.name}.tmp", f"{named.stem}.starts.tmp", *copies, ".lock-holder"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(file)
    (folder / ".again").symlink_to(victim / "folder")
    lines = (folder / MANIFEST_NAME).read_text().splitlines(keepends=True)
    (folder / MANIFEST_NAME).write_text("".join([*lines[:-1], "x\n", *lines[-1:]]))
    assert [bad.is_mended or bad.is_cut_back for bad in run(folder).bad] == [True, True]
    prepared(tmp_path / "texts", folder)
    assert file.read_bytes() == b"precious"
    assert list((victim / "folder").iterdir()) == []
    now = content(folder)
    assert {name: now[name] for name in before} == before
