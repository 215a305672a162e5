"""nanofit plans, proves and trains the best small GPT that one card can train.

Importing this package costs nothing: every room is imported by the verb that needs it, so that the command line answers
at once.
"""

import os
import sys
import time

# Before torch loads libgomp (its OpenMP on Linux): a waiting thread spins briefly, then sleeps. libgomp's own default
# makes a small step many times slower beside a second busy process (docs/log.md, 2026-11-24).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Before torch reads it: memory segments of a CUDA device that grow where they are, so that less of the card is lost between
# tensors. Windows and macOS have none.
if sys.platform == "linux" and not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & set(os.environ):
    os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"

__version__ = "0.1.0"

# Hours are counted from here: the first line of ours that a command runs (the interpreter's own start takes about 10 ms).
STARTED = time.monotonic()
