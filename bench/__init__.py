"""Benchmarks: speed as ratios, taken side by side in one run. `pytest bench` prints the tables."""
