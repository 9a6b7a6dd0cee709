"""Benchmarks, as a command: `python -m tests.benchmarks [PART …]`. Ratios are taken within one run on one machine."""
