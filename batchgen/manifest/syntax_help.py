"""The place, the message and the hint for YAML that does not parse, by what people usually mean."""

import re

from yaml.error import Mark, MarkedYAMLError
from yaml.reader import ReaderError

from batchgen.catalogue.wording import character_name
from batchgen.manifest.source import Position, SourceText

HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
JSON_COMMENT = re.compile(r"^[ \t]*(//|/\*)|[\[{,] */[/*]", re.MULTILINE)
VALUE = re.compile(r"(?:^\s*-\s|:\s|[,\[{])\s*(?=(\S))")
"""What stands before a value, and the first character of the value."""
HIDDEN_END = re.compile(r"\s#[^\"'#]*[\]}]")
"""A bracket that closes in a comment."""
AT_ITS_BEGINNING = ("could not find expected ':'", "found unexpected end of stream")
"""Problems that the parser sees far behind their cause."""
COLON_IN_TEXT = "put a text that holds a colon and a space in quotes"

ODD_BLANK = "[\xa0\u1680\u2000-\u200b\u202f\u205f\u3000\ufeff]"
"""What looks like a space and is a letter to YAML: chats, web pages and Japanese keyboards write it."""
BEGINNING = re.compile(rf"[ \t]*(?P<dash>-[ \t]*)?(?P<blank>{ODD_BLANK})")
"""A line that begins with one, or an item of a list."""
KEY = r"\s*(?:-\s+)?[A-Za-z_][\w-]*"
LONE_KEY = re.compile(rf"{KEY}:\s+")
"""What stands before a value without brackets around it."""
LINES: tuple[tuple[str, str], ...] = (
    (r"([<=>])\1{6}( |$)", "git has left two versions here: keep one, and remove the lines such as this"),
    (r"\s*```", "remove the line: ``` marks code in a text, and is no YAML"),
    (r"\s*-[A-Za-z_]\w*:", "put a space behind the dash"),
    (r"\s*[–—−•·*]\s*[A-Za-z_]\w*:", "begin an item of a list with a hyphen and a space"),
    (rf"{KEY}\s*：", "write a plain colon and a space behind the key"),
    (rf"{KEY}:{ODD_BLANK}", "write a plain space behind the colon"),
    (rf"{KEY}:(?!//)\S", "put a space behind the colon"),
)
"""The beginning of a line, as a pattern, and what to do about it."""
VALUES = {
    '"': 'inside double quotes write \\" for a quote, or put single quotes around the text',
    "'": "inside single quotes write a quote twice: '', or put double quotes around the text",
    **{char: f"put a text that begins with {char} in quotes" for char in "%@*&[{-?>|!`"},
}
"""The first character of a value, and what to do about it."""


def syntax_help(error: MarkedYAMLError | ReaderError, source: SourceText) -> tuple[Position, str, str]:
    """The place, the message and the hint for an error of the parser."""
    if isinstance(error, ReaderError):
        offset = len(source.text.encode()[: error.position].decode())
        return source.position_of(offset), f"the character U+{error.character:04X} cannot stand in YAML", "remove it"
    problem = str(error.problem)
    mark = (error.context_mark if problem in AT_ITS_BEGINNING else None) or error.problem_mark or error.context_mark
    position = _place(mark)
    line, column = source.line(position), position.column - 1
    if "invalid Unicode character escape" in problem and HALF_PAIR.search(line):
        message = "the text holds half of a surrogate pair, which is no character"
        return position, message, "write the whole character instead"
    context = f" {error.context}" if error.context else ""
    message = f"this is not YAML:{context} {problem}".replace("  ", " ")
    if problem.startswith("did not find expected ',' or"):
        opening = _place(error.context_mark)
        hint = _bracket_hint(opening, line, source)
        is_colon = line[column : column + 1] == ":" and opening.line == position.line
        return position, message, f"{COLON_IN_TEXT}; or {hint}" if is_colon else hint
    return position, message, _hint(problem, position, line, source)


def line_hint(line: str) -> str:
    """What to do about a line that is YAML but for a slip of the finger; "" where it is none that is known."""
    return blank_hint(line) or next((hint for pattern, hint in LINES if re.match(pattern, line)), "")


def blank_hint(text: str) -> str:
    """What to do about a line or a key that begins with a blank which YAML takes for a letter; "" where none does."""
    if not (match := BEGINNING.match(text)):
        return ""
    instead = "put a plain space behind the dash, not" if match["dash"] else "indent with plain spaces, not with"
    return f"{instead} {character_name(match['blank'])}"


def _place(mark: Mark | None) -> Position:
    return Position(mark.line + 1, mark.column + 1, begin=mark.index - mark.column) if mark else Position(1, 1)


def _hint(problem: str, position: Position, line: str, source: SourceText) -> str:
    """The hint for any other problem on a line."""
    before = line[: position.column]
    if "\t" in before and not before.strip():
        return "indent with spaces, not with tabs"
    if "\\" in line and "escape" in problem:
        return "write a backslash twice inside double quotes, or use single quotes"
    if problem == "found unexpected end of stream":
        return "this quote has no end: the text behind it is not closed"
    if hint := line_hint(line):
        return hint
    if problem == "could not find expected ':'":
        return "a key has a colon and a space behind it; a text that goes on is indented deeper than its key"
    is_first = ": " not in before[:-1] and before.strip()[:1] not in "{["
    if "mapping values are not allowed" in problem:
        above = line_hint(source.text[: position.begin].rstrip("\r\n").rpartition("\n")[2])
        same_column = "write this key in the same column as the other keys of its job"
        return (above and f"{above}, on the line above") or (same_column if is_first else COLON_IN_TEXT)
    if len(before.strip()) == 1 and problem.startswith("did not find expected"):
        return "write it in the same column as the line that it belongs to"
    starts = [match[1] for match in VALUE.finditer(before) if match[1] in VALUES]
    return VALUES[starts[-1]] if starts else ""


def _bracket_hint(opening: Position, line: str, source: SourceText) -> str:
    """The hint where a list or mapping in brackets, which begins at `opening`, does not go on as one."""
    if JSON_COMMENT.search(source.text):
        return "JSON has no comments; in YAML a comment begins with #"
    first = source.line(opening)
    bracket = first[opening.column - 1 : opening.column]
    if HIDDEN_END.search(first, opening.column):
        return f"the rest of line {opening.line} from # on is a comment: put a text that holds # in quotes"
    where = f"the {bracket} on {opening.line}:{opening.column}"
    hint = f"a comma is missing before this, or {where} is not closed"
    if not line.strip():
        hint = f"the file ends before {where} is closed"
    return f"{hint}; {VALUES[bracket]}" if LONE_KEY.fullmatch(first, 0, opening.column - 1) else hint
