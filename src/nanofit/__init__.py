"""nanofit plans, proves and trains the best small GPT that one card can train.

Importing this package costs nothing: every room is imported by the verb that needs it, so that the command line answers
at once.
"""

import os
import time

# Before torch loads its OpenMP runtime: waiting threads sleep instead of spinning. With a second busy process on the
# machine spinning makes a small step 4 to 20 times slower (docs/log.md, 2026-11-24).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"

# Hours are counted from here: the first line of ours that a command runs (the interpreter's own start takes about 10 ms).
STARTED = time.monotonic()
