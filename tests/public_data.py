"""Public data beside the checkout, for tests that need real text; they skip where it is absent."""

from pathlib import Path

FINEWEB = Path(__file__).parents[2] / "shared" / "data" / "fineweb"
"""Rows of FineWeb."""
