"""What each documented model accepts, which path serves it, what it costs and how long it takes.

Pure: data and functions on it. `tests/catalogue/build.py` makes `models.json` from the service's schemas; `rules.json`
has by hand what the service documents in prose only.
"""
