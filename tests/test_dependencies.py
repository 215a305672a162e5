"""What is imported is declared in pyproject.toml: a package that another one happens to bring along may be gone tomorrow."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_INSTALLED = {
    "datasets",  # by nanoGPT's way in a benchmark, in an interpreter that the user names
    "made_up_package",  # in a test of an optional dependency that is missing
    "tiktoken_ext",  # tiktoken's own plugin folder, which comes with it
}


def imported(*folders: str) -> set[str]:
    """Top-level packages that the files of `folders` import, those of the standard library and of this repository left out."""
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    helpers = [*(ROOT / "tests").glob("*.py"), *(ROOT / "tests" / "cli").glob("*.py")]
    own = {"nanofit", "tests", "benchmarks"} | {file.stem for file in helpers}
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - own - sys.stdlib_module_names - NOT_INSTALLED


def declared(*extras: str) -> set[str]:
    """Normalized names of the distributions that the project, or one of its `extras`, requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    return {normalized(re.split(r"[^\w.-]", text)[0]) for text in texts}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("folders", "extras"),
    [(("src",), ("8bit", "datatrove", "wandb", "trackio", "tensorboard")), (("src", "tests", "benchmarks"), ("dev",))],
)
def test_every_import_is_of_a_declared_dependency(folders: tuple[str, ...], extras: tuple[str, ...]) -> None:
    distributions = packages_distributions()
    undeclared = {
        package
        for package in imported(*folders)
        if not {normalized(name) for name in distributions.get(package, [package])} & declared(*extras)
    }
    assert not undeclared


def test_the_versions_that_messages_say_to_install_are_the_declared_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = [bound for extra in project["optional-dependencies"].values() for bound in extra]
    texts = [file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py")]
    said = {bound for text in texts for bound in re.findall(r"pip install '([\w-]+>=[\d.]+)'", text)}
    assert said and said <= {*bounds, *project["dependencies"]}
