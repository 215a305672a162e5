"""What every command does with its arguments: both spellings of options, text, paths, and numbers."""

import os
import sys
from pathlib import Path

import pytest
from nanofit_command import Nanofit

NOT_UTF8 = os.fsdecode(b"ab\xff")


@pytest.mark.parametrize("option", ["--top-k", "--top_k"])
def test_an_option_of_a_command_has_both_spellings(nanofit: Nanofit, option: str) -> None:
    for value in (f"{option}=5", option):
        ran = nanofit("sample", "missing", "prompt", *value.split(), *(["5"] if value == option else []))
        assert "missing is no run folder" in ran.err


@pytest.mark.parametrize("option", ["--val-tokens", "--val_tokens"])
def test_a_name_is_respelled_whichever_was_declared(nanofit: Nanofit, option: str) -> None:
    assert "no source 'missing'" in nanofit("data", "prepare", "missing", option, "1M").err


def test_flags_and_fields_have_both_spellings_in_one_command(nanofit: Nanofit) -> None:
    ran = nanofit("train", "missing.toml", "--no_probe", "--n-layer", "3", "--batch-size=2")
    assert "missing.toml does not exist" in ran.err


def test_what_follows_two_dashes_is_no_option(nanofit: Nanofit) -> None:
    assert "missing is no run folder" in nanofit("sample", "missing", "--", "--top_k").err


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are UTF-16 there")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("sample", "run", NOT_UTF8), "PROMPT"),
        (("plan", "--gpu", NOT_UTF8), "--gpu"),
        (("plan", f"--hours={NOT_UTF8}"), "--hours"),
        (("train", "--out", NOT_UTF8), "--out"),
        (("train", "--until", NOT_UTF8), "--until"),
        (("data", "prepare", NOT_UTF8), "SOURCE"),
        (("data", "prepare", "python", "--tokens", NOT_UTF8), "--tokens"),
        (("eval", "run", "--tasks", NOT_UTF8), "--tasks"),
    ],
)
def test_bytes_that_are_no_text_are_one_line(nanofit: Nanofit, arguments: tuple[str, ...], named: str) -> None:
    ran = nanofit(*arguments)
    assert ran.code == 2
    assert ran.err == (
        f"nanofit: {named} holds bytes that are no text: write it in UTF-8, or set LANG to the encoding that you use\n"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a path is text")
def test_a_path_may_hold_any_bytes(nanofit: Nanofit, tmp_path: Path) -> None:
    folder = tmp_path / NOT_UTF8
    folder.mkdir()
    (folder / "run.toml").write_text("[budget]\nsteps = 5\n")
    assert nanofit("plan", folder / "run.toml", "--json").code == 0
    assert nanofit("runs", folder, "--json").out == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("plan", ""), "RECIPE.toml|CONFIG.py"),
        (("plan", "--save="), "--save"),
        (("runs", ""), "DIR"),
        (("quickstart", "--out", ""), "--out"),
        (("data", "prepare", "python", "--out="), "--out"),
    ],
)
def test_an_empty_path_is_a_mistake_and_not_this_folder(
    nanofit: Nanofit, arguments: tuple[str, ...], named: str
) -> None:
    ran = nanofit(*arguments)
    assert (ran.code, ran.err) == (2, f"nanofit: {named} is empty: give a path\n")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--tokens", "abc", "--tokens abc: give a whole number"),
        ("--tokens", "1.5", "--tokens 1.5: give a whole number"),
        ("--tokens", "0", "--tokens 0: give a whole number, at least 1"),
        ("--top-k", "-3", "--top-k -3: give a whole number, at least 1"),
        ("--seed", "1" + 30 * "0", "at most 9,223,372,036,854,775,807"),
        ("--temperature", "nan", "--temperature nan: give a number, at least 0"),
        ("--temperature", "hot", "--temperature hot: give a number"),
        ("--temperature", "-1", "--temperature -1: give a number, at least 0"),
    ],
)
def test_a_number_that_is_none_is_one_line_of_ours(nanofit: Nanofit, option: str, value: str, said: str) -> None:
    ran = nanofit("sample", "run", "prompt", option, value)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
