"""Measurements, as a command: `python -m tests.benchmarks [name …]`. Ratios are taken within one run on one machine."""
