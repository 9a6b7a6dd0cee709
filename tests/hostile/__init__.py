"""Hostile answers and files, drawn at random: `python -m tests.hostile`. The README here says what it proves."""
