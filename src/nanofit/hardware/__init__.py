"""The cards: the catalogue, their names, NVML, and a CPU described as a card. No torch."""
