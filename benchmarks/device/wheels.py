"""Wheels that stand in for packages which a machine without a network lacks. Imports nothing of what they may hold."""

import sys
import zipfile
from pathlib import Path

from nanofit.common.errors import UserError


def use_wheels(wheels: Path, target: Path) -> list[str]:
    """Unpacks every wheel of the folder `wheels` into the folder `target`, which is searched for imports from now on, before all
    else; returns their names. Unpacked, not imported from the archive, since compiled modules can't be.

    Raises UserError for a folder without wheels, and for a damaged one.
    """
    archives = sorted(wheels.glob("*.whl"))
    if not archives:
        raise UserError(f"{wheels} holds no wheels: pip download --no-deps --dest {wheels} PACKAGE")
    for archive in archives:
        try:
            with zipfile.ZipFile(archive) as stream:
                stream.extractall(target)
        except zipfile.BadZipFile:
            raise UserError(f"{archive} is no wheel: download it again") from None
    sys.path.insert(0, str(target))
    return [archive.name for archive in archives]
