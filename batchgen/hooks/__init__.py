"""What a run calls outside batchgen: notifications, a command for each delivered file, metrics. None can fail a run."""
