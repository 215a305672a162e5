"""What a run looks like: its loss curve, in the terminal and as a picture."""
