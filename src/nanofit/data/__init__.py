"""Text in, batches out: sources, tokenizers, shards, and the order of windows. No torch."""
