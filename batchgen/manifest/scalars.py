"""What an unquoted scalar of YAML means: the core schema of YAML 1.2."""

import math
import re

Scalar = str | int | float | bool | None

KEYWORDS: dict[str, Scalar] = dict.fromkeys(("", "~", "null", "Null", "NULL"), None)
KEYWORDS.update(dict.fromkeys(("true", "True", "TRUE"), True))
KEYWORDS.update(dict.fromkeys(("false", "False", "FALSE"), False))
NO_NUMBERS = frozenset(
    f"{sign}{word}"
    for sign in ("", "-", "+")
    for word in (".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", "NaN", "Infinity")
)
"""Numbers in YAML and in Python's json module, and none in JSON. pandas writes a missing value so."""
INTEGER = re.compile(r"[-+]?[0-9]{1,19}")
LONG_INTEGER = re.compile(r"[-+]?[0-9]{20,}")
"""No number of a float or of 64 bits is as exact."""
OTHER_BASE = re.compile(r"0o[0-7]{1,20}|0x[0-9a-fA-F]{1,16}")
LONGEST_NUMBER = 400
"""Characters of a number; the largest that a float holds has 309 digits."""
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def resolve(text: str) -> Scalar:
    """The value of an unquoted scalar in the core schema of YAML 1.2. Its .inf and .nan stay text: they are refused."""
    if text in KEYWORDS:
        return KEYWORDS[text]
    if text[0] in "0123456789+-.":
        if INTEGER.fullmatch(text):
            return int(text)
        if OTHER_BASE.fullmatch(text):
            return int(text, 0)
        if len(text) <= LONGEST_NUMBER and FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
            return number
    return text
