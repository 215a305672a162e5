"""What a run sees of its data: the token stream, the order of its windows, batches."""
