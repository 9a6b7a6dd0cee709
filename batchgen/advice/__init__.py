"""What stops a run, what a person does next, and the command to type for it."""
