"""The loss law of `nanofit/planning/loss/law.py`, fitted anew from public runs on FineWeb: `python -m benchmarks.loss_law`.

`points.csv` holds those runs, each with its source, and `unfinished.csv` what some of their logs read before the learning
rate had fallen. `step_law.py` fits what a batch or learning rate off the rule costs.
"""
