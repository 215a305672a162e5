"""Shard files and their manifest: written, read and checked."""
