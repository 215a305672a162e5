"""What is measured rather than predicted: the traced memory of a step, and the real one of a card."""
