"""What people and programs read: text, JSON, and the live display. Nothing here writes to the job table."""
