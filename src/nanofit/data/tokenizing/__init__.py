"""Documents to token ids, checked against the reference tokenizer."""
