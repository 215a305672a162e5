"""Which files of a dataset hold the text that is meant."""

import pytest

from memory_hub import MemoryHub
from nanofit.common.errors import UserError
from nanofit.common.events import Event, Note, silent
from nanofit.data.sources.hub.files import text_files
from nanofit.data.sources.hub.names import hub_name


def chosen(
    paths: list[str], folder: str = "", repo: str = "owner/dataset", card: str = "", before_cards: bool = False
) -> list[str]:
    """The files that are read of a dataset of `paths` and `card`; `folder` may be `:CONFIG`."""
    name = hub_name(f"hf://datasets/{repo}{'/' if folder and folder[0] not in ':@' else ''}{folder}")
    assert name is not None
    hub = MemoryHub(dict.fromkeys(paths, b"x") | ({"README.md": card.encode()} if card else {}), repo=repo)
    found = text_files(name, hub.as_hub, silent, before_cards=before_cards)
    assert found.parquet == found.files[0].path.endswith(".parquet")
    return [file.path for file in found.files]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["b.parquet", "a.parquet", "README.md"], ["a.parquet", "b.parquet"]),
        (["a.jsonl", "b.parquet"], ["b.parquet"]),
        (["a.jsonl.zst", "b.json.gz", "config.json"], ["a.jsonl.zst", "b.json.gz"]),
        (
            ["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"],
            ["data/train-00000-of-00001.parquet"],
        ),
        (["train/x.parquet", "more/x.parquet"], ["train/x.parquet"]),
        (["x.parquet", "x_validation.parquet", "dev/y.parquet", "val/y.parquet"], ["x.parquet"]),
        (["latest/x.parquet", "evaluations.parquet"], ["evaluations.parquet", "latest/x.parquet"]),
        (["x.parquet", "testing/x.parquet", "evaluation-0.parquet"], ["x.parquet"]),
        ([".cache/x.parquet", "x.parquet"], ["x.parquet"]),
    ],
)
def test_of_a_whole_dataset(paths, expected):
    assert chosen(paths) == expected


def test_of_a_folder_by_its_path_or_by_its_name():
    paths = ["data/en/train/a.parquet", "data/en/test/a.parquet", "data/de/train/a.parquet", "top/x.parquet"]
    assert chosen(paths, "data/en") == ["data/en/train/a.parquet"]
    assert chosen(paths, "en") == ["data/en/train/a.parquet"]
    assert chosen(paths, "en/test") == ["data/en/test/a.parquet"]
    assert chosen(paths, "data/de/train/a.parquet") == ["data/de/train/a.parquet"]
    with pytest.raises(UserError, match="2 folders 'train': name one of data/de/train, data/en/train"):
        chosen(paths, "train")
    with pytest.raises(
        UserError, match=r"no folder 'eng' .*text lies in data/de/train, data/en/test, data/en/train, top"
    ):
        chosen(paths, "eng")
    with pytest.raises(UserError, match=r"no folder 'tops' with text \(did you mean 'top'\?\)"):
        chosen(paths, "tops")


def test_a_split_that_is_asked_for_by_name_is_read():
    assert chosen(["test/test-0.parquet", "train/a.parquet"], "test") == ["test/test-0.parquet"]


@pytest.mark.parametrize("paths", [["README.md"], ["test.parquet"], ["a.txt", "b.csv"]])
def test_no_text(paths):
    with pytest.raises(UserError, match=r"dataset owner/dataset holds no text for training in \.parquet or \.jsonl"):
        chosen(paths)


def test_a_dataset_of_a_script_alone_names_the_hubs_conversion():
    with pytest.raises(UserError, match="conversion if it has one: hf://datasets/owner/dataset@refs/convert/parquet"):
        chosen(["dataset.py", "data.zip"])
    with pytest.raises(UserError, match=r"name another source$"):
        chosen(["en/x.csv"], "@refs/convert/parquet")


def test_empty_files_are_left_out():
    name = hub_name("hf://datasets/owner/dataset")
    assert name is not None
    hub = MemoryHub({"a.parquet": b"", "b.parquet": b"x"})
    assert [file.path for file in text_files(name, hub.as_hub, silent).files] == ["b.parquet"]


def test_that_several_folders_are_read_is_said():
    name = hub_name("hf://datasets/owner/dataset")
    assert name is not None
    reported: list[Event] = []
    hub = MemoryHub({f"{number:02d}/a.parquet": b"x" for number in range(12)} | {"a.parquet": b"x"})
    text_files(name, hub.as_hub, reported.append)
    (note,) = reported
    assert isinstance(note, Note)
    assert "13 files of 13 folders: the top folder, 00, 01, 02, 03, 04, 05, 06 and 5 more" in note.text


def test_of_fineweb_only_the_folder_is_listed():
    paths = [
        "sample/10BT/000_00000.parquet",
        "data/CC-MAIN-2024-10/000_00000.parquet",
        "data/CC-MAIN-2013-20/test.parquet",
    ]
    repo = "HuggingFaceFW/fineweb"
    assert chosen(paths, "sample/10BT", repo) == paths[:1]
    assert chosen(paths, "CC-MAIN-2024-10", repo) == paths[1:2]
    assert chosen(paths, "data", repo) == paths[1:2]
    with pytest.raises(UserError):
        chosen(paths, "sample/100BT", repo)


# The card's configs

WIKITEXT = """---
configs:
- config_name: wikitext-103-raw-v1
  data_files:
  - {split: test, path: wikitext-103-raw-v1/test-*}
  - {split: train, path: wikitext-103-raw-v1/train-*}
- config_name: wikitext-2-raw-v1
  data_files:
  - {split: test, path: wikitext-2-raw-v1/test-*}
  - {split: train, path: wikitext-2-raw-v1/train-*}
---
"""
WIKITEXT_PATHS = [
    f"wikitext-{size}-raw-v1/{split}-0.parquet" for size in (103, 2) for split in ("test", "train", "validation")
]


def test_one_config_of_the_card_is_read_and_without_a_default_it_is_asked_for():
    for folder in (":wikitext-2-raw-v1", "wikitext-2-raw-v1"):
        assert chosen(WIKITEXT_PATHS, folder, card=WIKITEXT) == ["wikitext-2-raw-v1/train-0.parquet"]
    with pytest.raises(
        UserError, match=r"2 configs and no default.*hf://datasets/owner/dataset:CONFIG.*wikitext-103-raw"
    ):
        chosen(WIKITEXT_PATHS, card=WIKITEXT)
    with pytest.raises(UserError, match=r"hf://datasets/owner/dataset@v1:CONFIG"):
        chosen(WIKITEXT_PATHS, "@v1", card=WIKITEXT)
    with pytest.raises(UserError, match=r"no config 'wikitext-3-raw-v1' \(did you mean 'wikitext-"):
        chosen(WIKITEXT_PATHS, ":wikitext-3-raw-v1", card=WIKITEXT)


def test_the_default_config_decides_which_files_are_read():
    card = "---\nconfigs:\n- config_name: default\n  data_files: [{split: train, path: data/*/*}]\n- config_name: sample\n---\n"
    paths = ["data/2013/000_00000.parquet", "data/2024/train-00000-of-00014.parquet", "sample/x.parquet", "top.parquet"]
    assert chosen(paths, card=card) == paths[:2]
    assert chosen(paths, "sample", card=card) == ["sample/x.parquet"]  # a folder of that name goes first


def test_a_config_is_found_by_the_name_that_stands_where_a_folder_would():
    card = "---\nconfigs:\n- config_name: aai\n  data_files: [{split: train, path: data/aai/train/*}]\n- config_name: bar\n---\n"
    paths = ["data/aai/train/0.parquet", "data/aai/test/0.parquet", "data/aai_removed/train/0.parquet"]
    assert chosen(paths, "aai", card=card) == chosen(paths, ":aai", card=card) == paths[:1]


def test_only_the_folder_of_a_config_is_listed():
    name = hub_name("hf://datasets/owner/dataset:a")
    assert name is not None
    card = b"---\nconfigs:\n- config_name: a\n  data_files: data/a/*.parquet\n---\n"
    hub = MemoryHub({"README.md": card, "data/a/0.parquet": b"x", "data/b/0.parquet": b"x"})
    asked: list[str] = []
    files = hub.files
    hub.files = lambda under="": asked.append(under) or files(under)
    assert text_files(name, hub.as_hub, silent).config == "a"
    assert asked == ["data/a"]


def test_a_config_with_a_folder_alone_is_told_apart_by_names():
    card = "---\nconfigs:\n- config_name: a\n  data_dir: a\n---\n"
    assert chosen(["a/train.parquet", "a/test.parquet", "b/train.parquet"], card=card) == ["a/train.parquet"]


def test_what_is_wrong_with_a_config_is_said():
    with pytest.raises(UserError, match="has no configs, so none called 'en'"):
        chosen(["a.parquet"], ":en")
    assert chosen(["a.parquet"], ":default") == ["a.parquet"]
    with pytest.raises(UserError, match="config a of dataset owner/dataset holds no text"):
        chosen(["a.csv"], card="---\nconfigs: [{config_name: a, data_files: a.csv}]\n---\n")
    with pytest.raises(UserError, match="the card of dataset owner/dataset can't be read"):
        chosen(["a.parquet"], card="---\nconfigs: [\n---\n")


def test_of_a_conversion_by_the_hub_the_folders_are_the_configs():
    paths = ["en/train/0000.parquet", "en/partial-train/0001.parquet", "en/test/0.parquet", "de/train/0000.parquet"]
    assert chosen(paths, "@refs/convert/parquet:en") == sorted(paths[:2])
    assert chosen(paths, "@refs%2Fconvert%2Fparquet/de") == [paths[3]]
    with pytest.raises(UserError, match=r"2 configs and no default.*one of de, en"):
        chosen(paths, "@refs/convert/parquet")


def test_newer_crawls_whose_files_are_not_called_train_belong_to_the_default():
    paths = ["data/CC-MAIN-2013-20/train-00000-of-00014.parquet", "data/CC-MAIN-2025-26/000_00000.parquet"]
    assert chosen(paths, "data", "HuggingFaceFW/fineweb-edu") == paths


def test_sets_begun_before_cards_were_read_go_on_with_their_files():
    assert chosen(WIKITEXT_PATHS, card=WIKITEXT, before_cards=True) == [
        "wikitext-103-raw-v1/train-0.parquet",
        "wikitext-2-raw-v1/train-0.parquet",
    ]
    paths = ["data/CC-MAIN-2013-20/train-00000-of-00014.parquet", "data/CC-MAIN-2025-26/000_00000.parquet"]
    assert chosen(paths, "data", "HuggingFaceFW/fineweb-edu", before_cards=True) == paths[:1]


def test_files_that_are_left_out_by_their_names_are_told():
    name = hub_name("hf://datasets/owner/dataset")
    assert name is not None
    reported: list[Event] = []
    hub = MemoryHub(dict.fromkeys(["train.parquet", "test.parquet", "more.parquet"], b"x"))
    text_files(name, hub.as_hub, reported.append)
    assert [note.text for note in reported if isinstance(note, Note)] == [
        "1 of 3 files are for training by their names; left out: more.parquet, test.parquet"
    ]
