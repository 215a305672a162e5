"""What a source by name stands for: which dataset of the hub, which folder of it, at which revision.

Nothing is asked of the hub here. A name that looks like no hub's at all is left to the local sources.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from nanofit.common.errors import UserError, nearest

FINEWEB = "HuggingFaceFW/fineweb"

COMMUNITY_FOLDER = "sample/10BT"
"""The folder of FineWeb whose first 10,485,760 tokens are the community's validation set."""

FINEWEB_BYTES_PER_TOKEN = 3.06
"""Bytes of FineWeb's parquet files per token: 30.6 GB of sample-10BT."""

_FINEWEBS = {"fineweb": FINEWEB, "fineweb-edu": "HuggingFaceFW/fineweb-edu"}
_SAMPLES = {"sample-10BT": 9.5e9, "sample-100BT": 95e9, "sample-350BT": 330e9}  # up to how many tokens one is taken
PRETOKENISED = ("kjj0/fineweb10B-gpt2", "kjj0/fineweb100B-gpt2")  # with tokenizer `gpt2`
_CRAWL = re.compile(r"CC-MAIN-\d{4}-\d{2}")


@dataclass(frozen=True)
class HubName:
    """A dataset of the hub as a source. `spec` is the name in full, `under` the folder of `repo` that is read ("": all of
    it); `name` begins the names of shards, `folder_name` is free of slashes and says which subset. `kind`: text, or
    tokens that are shards already. `config`: the one of its card that was asked for, "" for the default."""

    spec: str
    repo: str
    under: str
    name: str
    folder_name: str
    revision: str = "main"
    is_fineweb: bool = False
    kind: Literal["text", "tokens"] = "text"
    config: str = ""


def hub_name(spec: str, wanted_tokens: float | None = None) -> HubName | None:
    """The dataset that `spec` names, None where it names none; of FineWeb without a subset, the smallest that holds
    `wanted_tokens`. Raises UserError for what is almost a name."""
    if spec in PRETOKENISED:
        return _dataset(spec, "main", "")
    head, colon, subset = spec.partition(":")
    if head in _FINEWEBS:
        chosen = _subset_for(wanted_tokens) if not colon else subset
        return _fineweb(head, chosen, "main")
    if spec.startswith("hf:"):
        return _from_path(spec, spec.removeprefix("hf:").strip("/"))
    if spec.startswith(("http://", "https://")):
        url = urlsplit(spec)
        if url.netloc not in ("huggingface.co", "www.huggingface.co", "hf.co"):
            raise UserError(f"{spec} is no dataset of huggingface.co: download it, and name the local file or folder")
        return _from_address(spec, url.path)
    if not Path(spec).expanduser().exists():
        _refuse_near_names(spec, head)
    return None


def _subset_for(wanted_tokens: float | None) -> str:
    return next((sample for sample, most in _SAMPLES.items() if (wanted_tokens or 0) <= most), "default")


def _fineweb(head: str, subset: str, revision: str) -> HubName:
    """`subset` is a config of the dataset's card or the folder that it stands for."""
    config = {"data": "default"}.get(subset, subset.removeprefix("data/").replace("sample/", "sample-"))
    if config in _SAMPLES:
        under = config.replace("-", "/")
    elif config == "default":
        under = "data"
    elif _CRAWL.fullmatch(config):
        under = f"data/{config}"
    else:
        known = [*_SAMPLES, "default"]
        hint = nearest(config, known) if not config.startswith("CC") else ""
        raise UserError(
            f"{head} has no subset '{config}'{hint}: known are {', '.join(known)} and crawls like CC-MAIN-2024-10"
        )
    spec = f"{head}:{config}" if revision == "main" else f"hf://datasets/{_FINEWEBS[head]}@{_written(revision)}/{under}"
    folder = _folder_name(f"{head}-{config}" if revision == "main" else f"{head}-{config}-{revision}")
    return HubName(spec, _FINEWEBS[head], under, head, folder, revision, is_fineweb=True)


_LOCATION = re.compile(
    r"(?P<repo>[^/@:]+/[^/@:]+)"
    r"(?:@(?P<revision>refs/(?:convert/[\w.-]+|pr/\d+)(?=[/:]|$)|[^/:]+))?"
    r"(?::(?P<config>[^/]+))?"
    r"(?:/(?P<folder>.+))?",
    re.DOTALL,
)
"""OWNER/NAME[@REVISION][:CONFIG] or OWNER/NAME[@REVISION][/FOLDER]. A revision with a slash is written with %2F, but for the
hub's own refs/: the rules of huggingface_hub.parse_hf_uri, which takes 0.15 s to import."""

_PAGES_OF_FILES = ("blame", "blob", "raw", "resolve", "tree")


def _from_path(spec: str, path: str) -> HubName:
    """From `datasets/` and a location (`_LOCATION`)."""
    kind, _, location = path.partition("/")
    found = _LOCATION.fullmatch(location)
    if kind != "datasets" or found is None or "//" in location or (found["config"] and found["folder"]):
        raise UserError(
            f"'{spec}' names no dataset: write hf://datasets/OWNER/NAME, hf://datasets/OWNER/NAME:CONFIG or "
            "hf://datasets/OWNER/NAME/FOLDER"
        )
    return _dataset(found["repo"], unquote(found["revision"] or "main"), found["folder"] or "", found["config"] or "")


def _from_address(spec: str, path: str) -> HubName:
    """From the path of a page of the hub: `datasets/OWNER/NAME`, or one of its files and folders, or of its viewer."""
    parts = [unquote(part).replace("/", "%2F") for part in path.split("/") if part]
    location, rest = "/".join(parts[:3]), parts[3:]
    if rest and rest[0] in _PAGES_OF_FILES:
        return _from_path(spec, location + ("@" + "/".join(rest[1:]) if rest[1:] else ""))
    if not rest or rest[0] == "viewer":
        # What follows a config there is a split of it.
        return _from_path(spec, "/".join([location, *rest[1:2]]))
    raise UserError(f"{spec} is no page of a dataset's files: give the address of the dataset, or of a folder of it")


def _dataset(repo: str, revision: str, under: str, config: str = "") -> HubName:
    # The hub finds a repository whatever the case of its name.
    repo = {known.lower(): known for known in (*_FINEWEBS.values(), *PRETOKENISED)}.get(repo.lower(), repo)
    for head, fineweb in _FINEWEBS.items():
        # A conversion by the hub has folders of its own.
        if repo == fineweb and not revision.startswith("refs/convert/"):
            return _fineweb(head, config or under or "default", revision)
    owner, name = repo.split("/")
    at = "" if revision == "main" else f"@{_written(revision)}"
    words = [word for word in (owner, name, under, config, revision if at else "") if word]
    kind = "tokens" if repo in PRETOKENISED else "text"
    spec = f"hf://datasets/{repo}{at}" + (f"/{under}" if under else f":{config}" if config else "")
    if kind == "tokens" and not at and not under:
        spec, words = repo, [name]
    return HubName(spec, repo, under, _safe(name), _folder_name("-".join(words)), revision, kind=kind, config=config)


def _written(revision: str) -> str:
    """A revision as `_LOCATION` reads it back."""
    return revision if re.fullmatch(r"refs/(?:convert/[\w.-]+|pr/\d+)", revision) else revision.replace("/", "%2F")


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "dataset"


def _folder_name(text: str) -> str:
    """`_safe`, with a hash where characters of other scripts were all that told two names apart."""
    return _safe(text) if text.isascii() else f"{_safe(text)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _refuse_near_names(spec: str, head: str) -> None:
    known = [*_FINEWEBS, *PRETOKENISED]
    if spec.lower().startswith("kjj0/") or "/" not in spec:
        folded = {name.lower(): name for name in known}
        word = spec if "/" in spec else head
        same = folded.get(word.lower())
        hint = f" (did you mean '{same}'?)" if same else nearest(word, known)
        # `fineweb.txt` and the like are files that are missing, not names.
        if hint and ("/" in spec or "." not in word):
            raise UserError(
                f"no source '{spec}'{hint}: sources of the hub are {', '.join(known)} and hf://datasets/OWNER/NAME"
            )
