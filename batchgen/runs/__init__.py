"""What a run does beside its stages: it asks about money, keeps up with the table, the clock and other runs, and judges
how it ended."""
