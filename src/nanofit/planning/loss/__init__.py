"""The validation loss that a run should reach."""
