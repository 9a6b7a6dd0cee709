"""What each documented model accepts, where it is served and how long it usually takes. Pure: data and a loader."""

from batchgen.catalogue.durations import typical_seconds
from batchgen.catalogue.kinds import kinds
from batchgen.catalogue.links import Link, images, likely_media, media, tokens
from batchgen.catalogue.prices import quote, with_defaults
from batchgen.catalogue.register import Style, endpoint, endpoints, known, model_of, models, nearest, schema, style_of
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
    "kinds",
    "known",
    "likely_media",
    "media",
    "model_of",
    "models",
    "nearest",
    "parameters",
    "quote",
    "schema",
    "style_of",
    "tokens",
    "typical_seconds",
    "violations",
    "with_defaults",
]
