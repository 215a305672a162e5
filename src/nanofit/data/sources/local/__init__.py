"""What lies on this machine: text in files of many kinds, mixed, and shards that others made. No torch."""
