"""The command line: parsing, tables and progress. No logic, and no torch before a verb needs it."""

from nanofit.cli.app import main

__all__ = ["main"]
