"""Numbers of tokens: how people write them, and the group in which data is ordered. Imports nothing heavy."""

import re
from decimal import Decimal
from typing import Any

GROUP_TOKENS = 2**20
"""The order of data permutes windows inside groups of this many tokens; a window must fit into one."""

_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def token_count(value: Any) -> Any:
    """Reads a number of tokens: 10B, 500M, 1e10 or 10_000. Text that is none raises ValueError; any other value is left
    for whoever takes it to check."""
    if isinstance(value, str):
        match = re.fullmatch(r"([\d_]*\.?\d+(?:e\+?\d{1,2})?)\s*([KMBT]?)", value.strip(), re.IGNORECASE)
        if match is None:
            raise ValueError(f"'{value}' is not a number of tokens: write 10B, 500M or 1e10")
        exact = Decimal(match[1]) * _SUFFIXES[match[2].upper()]  # a float would make 1.07B no whole number
        return int(exact) if exact == int(exact) else float(exact)
    return int(value) if isinstance(value, float) and value.is_integer() else value
