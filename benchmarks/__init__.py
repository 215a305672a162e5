"""Measurements that the README's figures come from. Each is one command and writes one JSON under `results/`."""

import os

ENVIRONMENT = dict(os.environ)
"""As the user set it. nanofit, once imported, says how OpenMP's threads wait; what it is compared with must not inherit that."""
