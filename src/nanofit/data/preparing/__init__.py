"""From a source to a folder of shards: which split, how many tokens, and the worker process beside a run."""
