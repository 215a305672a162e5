"""Time of a training step from operation counts and a card's rates."""
