"""Datasets of the hub: names, a client that reads by ranges, parquet and lines of JSON as text, shards as they are. No torch."""
