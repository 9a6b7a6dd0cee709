"""What each documented model accepts, which path serves it, what it costs and how long it takes.

Pure: data and functions on it. `tests/catalogue/build.py` makes `models.json` from the service's schemas; `rules.json`
has by hand what the service documents in prose only.
"""

from batchgen.catalogue.conversion import INTEGER
from batchgen.catalogue.durations import clip_seconds, typical_seconds
from batchgen.catalogue.links import Link, kinds, media
from batchgen.catalogue.prices import quote, with_defaults
from batchgen.catalogue.register import (
    LearnedModel,
    Style,
    canonical,
    endpoint,
    endpoints,
    is_known,
    is_served,
    learn,
    learned_at,
    model_of,
    models,
    nearest,
    schema,
    style_of,
)
from batchgen.catalogue.rules import is_retired
from batchgen.catalogue.validation import Violation, checked, parameters, texts, violations

__all__ = [
    "INTEGER",
    "LearnedModel",
    "Link",
    "Style",
    "Violation",
    "canonical",
    "checked",
    "clip_seconds",
    "endpoint",
    "endpoints",
    "is_known",
    "is_retired",
    "is_served",
    "kinds",
    "learn",
    "learned_at",
    "media",
    "model_of",
    "models",
    "nearest",
    "parameters",
    "quote",
    "schema",
    "style_of",
    "texts",
    "typical_seconds",
    "violations",
    "with_defaults",
]
