"""What to say of a source's name that stands for nothing."""

from pathlib import Path

from nanofit.common.errors import nearest

NANOGPT_DATASETS = {"openwebtext": 9.04e9, "shakespeare": 301_966.0, "shakespeare_char": 1_003_854.0}
"""The datasets that nanoGPT comes with, and the tokens of their train.bin (readme.md in each of nanoGPT's data/ folders)."""


def nothing_named(spec: str) -> str:
    """What to say of a name that stands for nothing."""
    path = Path(spec).expanduser()
    if path.is_symlink():
        return f"{path} is a link to {path.readlink()}, which does not exist: give the path of the text itself"
    is_name = path.name == spec and not path.suffix
    if spec in NANOGPT_DATASETS:
        return (
            f"no source '{spec}': data/{spec}/train.bin is not there; run nanoGPT's data/{spec}/prepare.py, or train on FineWeb, "
            "which needs no preparation: --source fineweb"
        )
    beside = sorted(entry.name for entry in path.parent.glob("*")) if path.parent.is_dir() else []
    hint = nearest(path.name, [*beside, "python", *NANOGPT_DATASETS])
    prepared = f", and no data/{spec}/train.bin" if is_name else ""
    return (
        f"no source '{spec}'{hint}: there is no such file or folder{prepared}; give a file or a folder of text (.txt, .md, .jsonl, "
        ".parquet), fineweb, hf://datasets/OWNER/NAME, or python"
    )
