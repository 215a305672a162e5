"""A hash of 64-bit numbers that is the same for ever, for orders that must never change."""

import numpy as np


def splitmix64(values: np.ndarray) -> np.ndarray:
    """splitmix64 of each value (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)  # arrays of uint64 wrap around, as the hash wants
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
