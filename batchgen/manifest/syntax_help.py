"""The message and the hint for YAML that does not parse, by what people usually mean."""

import re

from yaml.error import MarkedYAMLError

HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
JSON_COMMENT = re.compile(r"^\s*(//|/\*)|[\[{,] *//", re.MULTILINE)


def syntax_help(error: MarkedYAMLError, line: str, column: int) -> tuple[str, str]:
    """The message and the hint for an error of the parser, at a column (from 0) of a line."""
    if "invalid Unicode character escape" in str(error.problem) and HALF_PAIR.search(line):
        return "the text holds half of a surrogate pair, which is no character", "write the whole character instead"
    context = f" {error.context}" if error.context else ""
    message = f"this is not YAML:{context} {error.problem}".replace("  ", " ")
    before = line[: column + 1]
    if "\t" in before and not before.strip():
        return message, "indent with spaces, not with tabs"
    if "\\" in line and "escape" in str(error.problem):
        return message, "write a backslash twice inside double quotes, or use single quotes"
    if "mapping values are not allowed" in str(error.problem):
        return message, "put a text that holds a colon and a space in quotes"
    return message, ""
