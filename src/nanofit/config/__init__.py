"""What a run is: architectures, the Recipe and its files, the run folder, schedules, presets. No torch."""
