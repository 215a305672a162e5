"""Which dataset a source by name stands for."""

import string

import pytest
from huggingface_hub import parse_hf_uri
from hypothesis import given
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.data.sources.hub.names import HubName, hub_name


def named(spec: str, wanted_tokens: float | None = None) -> HubName:
    name = hub_name(spec, wanted_tokens)
    assert name is not None
    return name


@pytest.mark.parametrize(
    ("wanted_tokens", "folder"),
    [
        (None, "sample/10BT"),
        (3e9, "sample/10BT"),
        (9.5e9, "sample/10BT"),
        (1e10, "sample/100BT"),
        (2e11, "sample/350BT"),
        (1e12, "data"),
    ],
)
def test_fineweb_alone_is_the_smallest_subset_that_holds_the_tokens(wanted_tokens, folder):
    for spec, repo in (("fineweb", "HuggingFaceFW/fineweb"), ("fineweb-edu", "HuggingFaceFW/fineweb-edu")):
        name = named(spec, wanted_tokens)
        assert (name.repo, name.under, name.name, name.is_fineweb) == (repo, folder, spec, True)


def test_a_subset_that_is_named_is_taken_whatever_is_wanted():
    name = named("fineweb:sample-10BT", 1e12)
    assert (name.under, name.folder_name, name.revision) == ("sample/10BT", "fineweb-sample-10BT", "main")
    assert named("fineweb:CC-MAIN-2024-10").under == "data/CC-MAIN-2024-10"
    assert named("fineweb-edu:default").under == "data"


@pytest.mark.parametrize(
    "spec",
    [
        "hf://datasets/HuggingFaceFW/fineweb/sample/10BT",
        "hf://datasets/HuggingFaceFW/fineweb/sample-10BT",
        "https://huggingface.co/datasets/HuggingFaceFW/fineweb/tree/main/sample/10BT",
        "https://huggingface.co/datasets/HuggingFaceFW/fineweb/viewer/sample-10BT/train",
    ],
)
def test_other_ways_to_write_a_name_are_the_same_source(spec):
    assert named(spec) == named("fineweb:sample-10BT")


def test_any_dataset():
    name = named("hf://datasets/some/Stories")
    assert (name.repo, name.under, name.revision, name.name, name.folder_name) == (
        "some/Stories",
        "",
        "main",
        "Stories",
        "some-Stories",
    )
    name = named("hf://datasets/some/Stories@refs%2Fconvert%2Fparquet/en/train")
    assert (name.repo, name.under, name.revision) == ("some/Stories", "en/train", "refs/convert/parquet")
    assert named("https://huggingface.co/datasets/some/Stories/") == named("hf://datasets/some/Stories")
    assert named("https://huggingface.co/datasets/some/Stories/tree/abc/en") == named(
        "hf://datasets/some/Stories@abc/en"
    )


def test_pretokenised_datasets():
    for spec in ("kjj0/fineweb10B-gpt2", "kjj0/fineweb100B-gpt2"):
        assert named(spec) == named(f"hf://datasets/{spec}")
        assert named(spec).kind == "tokens"
    assert named("fineweb").kind == "text"


@given(st.text(string.ascii_letters + string.digits + "._-", min_size=1), st.text(string.printable.replace("@", "")))
def test_names_of_folders_and_shards_may_stand_in_a_path(owner, folder):
    name = hub_name("/".join([f"hf://datasets/{owner}/x", *filter(None, folder.split("/"))]))
    assert name is not None
    for word in (name.name, name.folder_name):
        assert (
            word
            and word not in (".", "..")
            and "/" not in word
            and word.isascii()
            and word.isprintable()
            and " " not in word
        )


@pytest.mark.parametrize(
    "spec",
    [
        "hf://datasets/owner/x",
        "hf://datasets/owner/x@v1/en/a.parquet",
        "hf://datasets/owner/x@refs/convert/parquet",
        "hf://datasets/owner/x@refs/convert/parquet/en/train",
        "hf://datasets/owner/x@refs%2Fconvert%2Fparquet/en",
        "hf://datasets/owner/x@refs/pr/12/en",
        "hf://datasets/owner/x@a%2Fb/en",
        "hf://datasets/owner/x/en/a@b.txt",
        "https://huggingface.co/datasets/owner/x",
        "https://hf.co/datasets/owner/x/tree/main",
        "https://huggingface.co/datasets/owner/x/tree/main/data/en",
        "https://huggingface.co/datasets/owner/x/blob/main/data/a%20b.parquet",
        "https://huggingface.co/datasets/owner/x/resolve/v1/data/a.parquet?download=true",
        "https://huggingface.co/datasets/owner/x/raw/refs/convert/parquet/en/train/0000.parquet",
        "https://huggingface.co/datasets/owner/x/tree/refs%2Fconvert%2Fparquet/en",
        "https://huggingface.co/datasets/owner/x/tree/a%2Fb/en",
    ],
)
def test_names_and_addresses_are_read_as_huggingface_hub_reads_them(spec):
    theirs = parse_hf_uri(spec)
    name = named(spec)
    assert (name.repo, name.revision, name.under) == (theirs.id, theirs.revision or "main", theirs.path_in_repo)
    assert named(name.spec) == name


def test_a_config_may_follow_the_name_or_the_revision():
    assert (named("hf://datasets/owner/x:en").config, named("hf://datasets/owner/x:en").under) == ("en", "")
    assert named("hf://datasets/owner/x@refs/convert/parquet:en").revision == "refs/convert/parquet"
    assert named("hf://datasets/owner/x:en").folder_name == "owner-x-en"
    assert named("hf://datasets/HuggingFaceFW/fineweb-edu:sample-10BT") == named("fineweb-edu:sample-10BT")


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        ("huggingfacefw/FineWeb/sample/10BT", "fineweb:sample-10BT"),
        ("HuggingFaceFW/FineWeb-edu:sample-10BT", "fineweb-edu:sample-10BT"),
        ("KJJ0/fineweb10b-GPT2", "kjj0/fineweb10B-gpt2"),
    ],
)
def test_known_datasets_are_known_in_any_case(spec, same):
    assert named(f"hf://datasets/{spec}") == named(same)


def test_names_of_other_scripts_have_folders_of_their_own():
    specs = ["owner/x", "owner/x:日本語", "owner/x:中文", "owner/x/日本語", "owner/x:en"]
    folders = [named(f"hf://datasets/{spec}").folder_name for spec in specs]
    assert len({*folders}) == 4  # a config and a folder of one name share one, as before
    assert folders[0] == "owner-x" and folders[4] == "owner-x-en"


@pytest.mark.parametrize("spec", ["named", "named@v1", "named/sub dir", "named@v1/sub", "named:c", "named@a%2Fb:c"])
def test_the_full_name_names_the_same(spec):
    name = named(f"hf://datasets/owner/{spec}")
    assert named(name.spec) == name


@pytest.mark.parametrize(
    "spec", ["python", "corpus", "data/fineweb", "fineweb.jsonl", "./fineweb", "wikitext.txt", "C:/text"]
)
def test_what_is_no_hub_name_is_left_to_local_sources(spec):
    assert hub_name(spec, None) is None


def test_a_local_file_is_never_taken_for_a_typing_error(tmp_path, monkeypatch):
    (tmp_path / "finweb").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hub_name("finweb", None) is None


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("finweb", "did you mean 'fineweb'"),
        ("Fineweb", "did you mean 'fineweb'"),
        ("fineweb_edu:sample-10BT", "did you mean 'fineweb-edu'"),
        ("fineweb:sample-10B", "did you mean 'sample-10BT'"),
        ("fineweb:CC-MAIN-2024", "CC-MAIN-2024-10"),
        ("fineweb:", "sample-10BT"),
        ("kjj0/fineweb10b-gpt2", "did you mean 'kjj0/fineweb10B-gpt2'"),
        ("hf://fineweb", "hf://datasets/OWNER/NAME"),
        ("hf://datasets/fineweb", "hf://datasets/OWNER/NAME"),
        ("hf://datasets//x", "hf://datasets/OWNER/NAME"),
        ("https://example.org/datasets/a/b", "huggingface.co"),
        ("https://huggingface.co/datasets/a/b/discussions/1", "no page of a dataset's files"),
        ("hf://datasets/a/b:config/folder", "hf://datasets/OWNER/NAME:CONFIG"),
    ],
)
def test_what_is_almost_a_name_is_refused_with_the_mend(spec, hint):
    with pytest.raises(UserError, match=hint) as caught:
        hub_name(spec, None)
    assert "\n" not in str(caught.value)
