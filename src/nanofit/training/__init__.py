"""The training of a run: the step, the loop around it, checkpoints, and what happens when something goes wrong."""
