"""Peak memory of a training step in closed form."""
