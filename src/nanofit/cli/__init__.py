"""The command line: parsing, tables and progress. No logic, and no torch before a command needs it.

What is set here, before anything is loaded, makes a command that only answers start and end quickly (docs/log.md).
"""

import atexit
import gc
import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line and exits."""
    # Loading modules and answering leave next to no garbage to look for. Watcher, around a long job, collects again.
    gc.disable()
    # As the interpreter ends it would look through every object once more, only to give back memory that ends anyway.
    atexit.register(gc.freeze)
    # pydantic would read the metadata of every installed package for plugins; a recipe's checks need none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        from nanofit.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
