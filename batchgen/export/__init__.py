"""Delivered clips in the forms that other programs read: CSV, JSON lines, Parquet, WebDataset, sidecar files."""
