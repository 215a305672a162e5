"""Which files of a dataset hold the text that is meant."""

import pytest

from memory_hub import MemoryHub
from nanofit.data.hub.files import text_files
from nanofit.data.hub.names import hub_name
from nanofit.errors import UserError
from nanofit.events import Event, Note, silent


def chosen(paths: list[str], folder: str = "", repo: str = "owner/dataset") -> list[str]:
    name = hub_name(f"hf://datasets/{repo}{folder and '/' + folder}")
    assert name is not None
    hub = MemoryHub(dict.fromkeys(paths, b"x"), repo=repo)
    found = text_files(name, hub.as_hub, silent)
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
