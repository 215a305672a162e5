"""How good a model is: validation loss, bits per byte, and plain baselines to hold it against."""
