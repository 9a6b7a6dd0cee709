"""What each documented model accepts, which path serves it, what it costs and how long it takes.

Pure: data (`models.json`) and functions on it. `tests/catalogue/build.py` makes the data from the service's schemas.
"""

from batchgen.catalogue.durations import clip_seconds, typical_seconds
from batchgen.catalogue.links import Link, kinds, media
from batchgen.catalogue.prices import quote, with_defaults
from batchgen.catalogue.register import (
    Style,
    endpoint,
    endpoints,
    is_known,
    model_of,
    models,
    nearest,
    schema,
    style_of,
)
from batchgen.catalogue.validation import INTEGER, Violation, checked, parameters, violations

__all__ = [
    "INTEGER",
    "Link",
    "Style",
    "Violation",
    "checked",
    "clip_seconds",
    "endpoint",
    "endpoints",
    "is_known",
    "kinds",
    "media",
    "model_of",
    "models",
    "nearest",
    "parameters",
    "quote",
    "schema",
    "style_of",
    "typical_seconds",
    "violations",
    "with_defaults",
]
