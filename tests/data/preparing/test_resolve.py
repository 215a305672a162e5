"""What a source's name stands for, and what is said of one that stands for nothing."""

from pathlib import Path

import numpy as np
import pytest

from nanofit.common.errors import UserError
from nanofit.data.preparing.resolve import Request, resolve, resolve_request
from small_sets import write_set


def kind(spec: str) -> str:
    source = resolve(spec)
    return next((name for name in ("manifest", "existing", "hub") if getattr(source, name) is not None), "text")


def refusal(spec: str) -> str:
    with pytest.raises(UserError) as caught:
        resolve(spec)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError) as of_training:
        resolve_request(Request(spec, "gpt2", 1000))
    assert str(of_training.value) == str(caught.value), "plan and train refuse in the same words"
    return str(caught.value)


def test_each_kind_of_source_is_told_apart(tmp_path: Path) -> None:
    for name in ("set", "nanogpt"):
        (tmp_path / name).mkdir()
    write_set(tmp_path / "set", [[1, 2, 3]])
    for name in ("train.bin", "val.bin"):
        np.arange(10, dtype="<u2").tofile(tmp_path / "nanogpt" / name)
    (tmp_path / "texts").mkdir()
    names = [str(tmp_path / "set"), str(tmp_path / "nanogpt"), "fineweb:sample-10BT", "kjj0/fineweb10B-gpt2"]
    assert [kind(name) for name in names] == ["manifest", "existing", "hub", "hub"]
    assert [kind(name) for name in ("hf://datasets/a/b", "python", str(tmp_path / "texts"))] == ["hub", "text", "text"]


def test_a_path_that_is_not_there_is_refused_with_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_texts").mkdir()
    assert "no source 'my_texs' (did you mean 'my_texts'?)" in refusal("my_texs")
    (tmp_path / "link").symlink_to("nowhere")
    assert refusal("link") == "link is a link to nowhere, which does not exist: give the path of the text itself"
    assert refusal("missing") == (
        "no source 'missing': there is no such file or folder, and no data/missing/train.bin; give a file or a folder of text "
        "(.txt, .md, .jsonl, .parquet), fineweb, hf://datasets/OWNER/NAME, or python"
    )
    assert f"no source '{tmp_path / 'my_text'}' (did you mean 'my_texts'?)" in refusal(str(tmp_path / "my_text"))
    assert "no source 'pyhton' (did you mean 'python'?)" in refusal("pyhton")
    assert "no source 'fineweb-2' (did you mean 'fineweb'?)" in refusal("fineweb-2")


@pytest.mark.parametrize("name", ["openwebtext", "shakespeare_char"])
def test_a_dataset_of_nanogpts_that_was_not_prepared(name: str) -> None:
    said = refusal(name)
    assert said.startswith(
        f"no source '{name}': data/{name}/train.bin is not there; run nanoGPT's data/{name}/prepare.py"
    )
    assert said.endswith("--source fineweb")


def test_a_set_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(b"ab")
    assert "holds no val.bin" in refusal(str(tmp_path))
