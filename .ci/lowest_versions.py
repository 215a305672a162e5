"""Prints pip constraints that pin every direct dependency to the lowest version that pyproject.toml admits.

`make lowest` installs these and runs the tests: a bound that is too low fails there, not on a user's machine. torch is left
out (constraints.txt pins it) because its older wheels are gigabytes; so are dependencies that are not for this platform.
"""

import tomllib
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

NOT_LOWERED = {"torch"}


def main() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        if requirement.name in NOT_LOWERED or (requirement.marker and not requirement.marker.evaluate()):
            continue
        (lowest,) = (bound.version for bound in requirement.specifier if bound.operator == ">=")
        print(f"{requirement.name}=={lowest}")


if __name__ == "__main__":
    main()
