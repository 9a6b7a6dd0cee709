"""What each documented model accepts, where it is served and how long it usually takes. Pure: data and a loader."""

from batchgen.catalogue.durations import typical_seconds
from batchgen.catalogue.kinds import kinds
from batchgen.catalogue.links import Link, images, media, tokens
from batchgen.catalogue.prices import quote, with_defaults
from batchgen.catalogue.register import endpoint, endpoints, model_of, models, nearest, schema, style_of
from batchgen.catalogue.validation import Violation, coerced, parameters, violations

__all__ = [
    "Link",
    "Violation",
    "coerced",
    "endpoint",
    "endpoints",
    "images",
    "kinds",
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
