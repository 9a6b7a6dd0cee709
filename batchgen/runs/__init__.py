"""What a run does beside its stages: it asks about money, and it keeps up with the table, the clock and other runs."""
