"""What a dataset's card says of its configs, in the forms that the hub documents."""

import re
import textwrap

import pytest
from fsspec.utils import glob_translate
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.data.sources.hub.cards import (
    Config,
    chosen_config,
    configs_of_card,
    folder_of,
    glob_pattern,
    training_globs,
)


def card(header: str) -> str:
    return f"---\n{textwrap.dedent(header).strip()}\n---\n# A dataset\n\n---\nconfigs: no header\n---\n"


def test_splits_with_one_path_or_several():
    (config,) = configs_of_card(
        card("""
            license: odc-by
            configs:
            - config_name: en
              default: true
              data_files:
              - split: train
                path: [en/a-*.parquet, ./en/b-*.parquet]
              - split: test
                path: en/test.parquet
        """)
    )
    assert config == Config(
        "en", {"train": ("en/a-*.parquet", "en/b-*.parquet"), "test": ("en/test.parquet",)}, "", True
    )


@pytest.mark.parametrize(
    ("data_files", "splits"),
    [
        ("'*.jsonl'", {"train": ("*.jsonl",)}),
        ("[a.jsonl, b.jsonl]", {"train": ("a.jsonl", "b.jsonl")}),
        ("{train: a.jsonl, test: [b.jsonl]}", {"train": ("a.jsonl",), "test": ("b.jsonl",)}),
        ("[{path: a.jsonl}]", {"train": ("a.jsonl",)}),
    ],
)
def test_other_forms_of_data_files(data_files, splits):
    (config,) = configs_of_card(card(f"configs:\n- config_name: x\n  data_files: {data_files}"))
    assert config.splits == splits


def test_a_folder_goes_before_the_paths_or_stands_alone():
    with_files, alone = configs_of_card(
        card("""
            configs:
            - config_name: a
              data_dir: ./sub/
              data_files: "*.parquet"
            - data_dir: other
        """)
    )
    assert with_files.splits == {"train": ("sub/*.parquet",)}
    assert (alone.name, alone.splits, alone.folder) == ("default", {}, "other")


def test_names_stay_as_they_are_written():
    names = [config.name for config in configs_of_card(card("configs: [{config_name: no}, {config_name: 20220301}]"))]
    assert names == ["no", "20220301"]


@pytest.mark.parametrize(
    "text", ["", "# No header", "---\nlicense: mit\n---", "---\n- a list\n---\n", "---\nconfigs: x\n---"]
)
def test_a_card_without_configs(text):
    assert configs_of_card(text) == []


def test_a_card_that_is_no_yaml():
    with pytest.raises(ValueError, match="line 2"):
        configs_of_card("---\nconfigs:\n\t- x\n---\n")


def configs(*names: str, default: str = "") -> list[Config]:
    return [Config(name, {"train": ("x",)}, "", name == default) for name in names]


def test_the_default_is_marked_or_called_so_or_the_only_one():
    for given_configs, expected in (
        (configs("a", "b", default="b"), "b"),
        (configs("a", "default"), "default"),
        (configs("only"), "only"),
    ):
        assert chosen_config(given_configs, "", "owner/x", "hf://datasets/owner/x").name == expected


def test_without_a_default_it_is_asked_for():
    many = configs(*(f"lang{number}" for number in range(500)))
    with pytest.raises(UserError) as caught:
        chosen_config(many, "", "owner/x", "hf://datasets/owner/x@v1")
    said = str(caught.value)
    assert "500 configs and no default" in said
    assert "hf://datasets/owner/x@v1:CONFIG" in said
    assert "lang0, lang1" in said and said.endswith("and 492 more")
    with pytest.raises(UserError, match=r"no config 'lang01' \(did you mean 'lang"):
        chosen_config(many, "lang01", "owner/x", "")


def test_the_training_split():
    for splits, expected in (
        ({"train": ("a",), "extra": ("b",)}, ("a",)),
        ({"train_sft": ("a",), "test_sft": ("b",)}, ("a",)),
        ({"corpus": ("a",), "evaluation": ("b",), "testing": ("c",)}, ("a",)),
    ):
        assert training_globs(Config("c", splits), "owner/x") == expected
    for refused in ({"2023": ("a",), "2024": ("b",)}, {"test": ("a",)}):
        with pytest.raises(UserError, match=f"no split 'train' but {', '.join(refused)}"):
            training_globs(Config("c", refused), "owner/x")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("data/*/*", "data/CC-MAIN-2024-10/000_00000.parquet", True),
        ("data/*/*", "data/CC-MAIN-2024-10/more/x.parquet", False),
        ("en/c4-train.*.json.gz", "en/c4-train.00000-of-01024.json.gz", True),
        ("en/c4-train.*.json.gz", "en.noclean/c4-train.00000-of-01024.json.gz", False),
        ("**/train.parquet", "train.parquet", True),
        ("**/train.parquet", "a/b/train.parquet", True),
        ("a/**", "a/b/c.parquet", True),
        ("x-?[0-9].parquet", "x-a1.parquet", True),
        ("x-[!0-9].parquet", "x-1.parquet", False),
        ("a+b.parquet", "aab.parquet", False),
        ("x-[^0].parquet", "x-1.parquet", False),
        ("x-[b-a].parquet", "x-[b-a].parquet", True),
        ("x-[!].parquet", "x-!.parquet", True),
    ],
)
def test_globs(pattern, path, matches):
    assert bool(glob_pattern(pattern).fullmatch(path)) == matches


parts_of_globs = st.sampled_from(
    ["a", "b", "-", "*", "**", "**/", "/", "?", "[ab]", "[!a]", "[^a]", "[a!]", "[a-b]", "."]
)


@settings(max_examples=300)
@given(st.lists(parts_of_globs, min_size=1, max_size=5).map("".join), st.text("ab/.^!-", min_size=1, max_size=5))
def test_globs_match_as_those_of_the_datasets_library(pattern, path):
    """It resolves the globs of a card with fsspec."""
    assume(not path.startswith("/") and not path.endswith("/") and "//" not in path + pattern)
    try:
        theirs = glob_translate(pattern)
    except ValueError:  # `**` as a part of a name
        return
    assert bool(glob_pattern(pattern).fullmatch(path)) == bool(re.fullmatch(theirs, path))


@given(st.text("ab/*?[]", max_size=12), st.text("ab/", max_size=12))
def test_every_match_of_a_glob_lies_in_its_folder(pattern, path):
    folder = folder_of(pattern)
    if glob_pattern(pattern).fullmatch(path) and folder:
        assert path.startswith(f"{folder}/")
