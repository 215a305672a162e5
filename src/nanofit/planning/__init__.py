"""What a recipe means before it runs: counts, warnings, and recipes for the machine at hand. No torch."""
