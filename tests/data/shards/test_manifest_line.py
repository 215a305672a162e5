"""What a manifest may say: nothing that leads out of its folder, nothing of another type."""

from typing import Any

import pytest

from nanofit.data.shards.manifest_line import ShardLine, check_made_of, shard_line

GOOD: dict[str, Any] = {
    "file": "texts_train_000001.bin",
    "split": "train",
    "sha256": "0" * 64,
    "tokens": 10,
    "documents": 2,
    "text_bytes": 20,
    "source": "texts",
    "tokenizer": "gpt2",
}


def test_a_good_line() -> None:
    assert shard_line(GOOD | {"files": ["a", "b"]}) == ShardLine(**GOOD, files=("a", "b"))


OUTSIDE = ["../victim/x.bin", "/etc/x.bin", "sub/x.bin", "..", ".", "", "x\0.bin", 7, None, ["x.bin"]]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("field", ["file", "source"])
def test_a_name_that_leads_out_of_the_folder(field: str, name: object) -> None:
    with pytest.raises(ValueError, match=f"{field} is .*, not "):
        shard_line(GOOD | {field: name})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", "manifest.jsonl"),
        ("split", "test"),
        ("tokens", 0),
        ("tokens", "10"),
        ("tokens", 1.5),
        ("tokens", True),
        ("documents", -1),
        ("text_bytes", None),
        ("sha256", 1),
        ("header_bytes", 512),
        ("files", "a"),
        ("files", [1]),
        ("cursor", []),
        ("engine", {}),
    ],
)
def test_a_value_that_can_not_be(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} is "):
        shard_line(GOOD | {field: value})


def test_fields_that_are_missing_or_unknown() -> None:
    with pytest.raises(ValueError, match="missing 1 required positional argument: 'tokens'"):
        shard_line({name: value for name, value in GOOD.items() if name != "tokens"})
    with pytest.raises(ValueError, match="tokenr"):
        shard_line(GOOD | {"tokenr": 1})


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"spec": 1},
        {"val_tokens": "10"},
        {"val_share": 2},
        {"evaluated_tokens": None, "most_tokens": -1},
        {"tokenizer": ["gpt2"]},
    ],
)
def test_what_a_set_can_not_be_made_of(values: object) -> None:
    with pytest.raises(ValueError):
        check_made_of(values)


def test_what_a_set_may_be_made_of() -> None:
    values = {"spec": "texts", "val_tokens": 10, "val_share": 0.5, "validation_commit": None, "other": [1]}
    check_made_of(values)
