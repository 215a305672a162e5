"""Kill -9 of training runs, hundreds of times: every run goes on by the same command, and becomes the run it would have been.

    python -m benchmarks.kills                 # 300 kills, at least 100 before a run's first checkpoint
    python -m benchmarks.kills --kills 24      # the same code, shorter; --seed N adds a session of other kills

It writes `benchmarks/results/kills_cpu.json` and fails at the first run that does not go on or does not compare.
"""
