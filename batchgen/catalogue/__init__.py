"""What each documented model accepts, where it is served and how long it usually takes. Pure: data and a loader."""

from batchgen.catalogue.durations import typical_seconds
from batchgen.catalogue.links import Link, images, likely_media, media, tokens
from batchgen.catalogue.register import Style, endpoint, endpoints, known, models, nearest, schema
from batchgen.catalogue.validation import INTEGER, Violation, checked, coerced, parameters, violations

__all__ = [
    "INTEGER",
    "Link",
    "Style",
    "Violation",
    "checked",
    "coerced",
    "endpoint",
    "endpoints",
    "images",
    "known",
    "likely_media",
    "media",
    "models",
    "nearest",
    "parameters",
    "schema",
    "tokens",
    "typical_seconds",
    "violations",
]
