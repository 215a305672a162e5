"""Sets of shards looked at again: checked, and what is bad in them made again. No torch."""
