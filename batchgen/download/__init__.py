"""The steps of one download: fetch into the `.part`, verify, place. The stage `downloader.py` decides when."""
