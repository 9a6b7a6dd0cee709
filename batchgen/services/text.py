"""Text from outside: made printable, bounded in length, without the key, and quoted for a shell."""

import json
import re
import shlex
import unicodedata

MESSAGE_CHARS = 2_000  # of a service's own message; validation errors of several fields fit
BLOT = "…"
"""Stands where a key was: a service may repeat the one that it refuses."""
KEY_CHARS_MIN = 8  # of a key that is blotted out: a shorter one is no secret, and would damage ordinary words
JOINERS = "\u200c\u200d"  # invisible, and parts of emoji and of words
SPECIAL_IN_QUOTES = re.compile(r'["$`\\!]')  # what a shell does not take as it is in double quotes
PICTOGRAPHS = range(0x1F000, 0x1FC00)  # in which every year new emoji appear, before Python knows them


def one_line(text: str, most: int) -> str:
    """One line of at most `most` characters. What moves a cursor, breaks a line or turns its direction is a space."""
    text = text[:most]
    return (text if text.isprintable() else "".join(char if is_harmless(char) else " " for char in text)).strip()


def is_harmless(char: str) -> bool:
    """Whether a character may stand in a name, and in a line of a terminal: it hides, turns and breaks nothing.

    The blanks of every script are harmless: macOS writes U+202F into the names of its screenshots, Japanese U+3000.
    """
    return char.isprintable() or char in JOINERS or unicodedata.category(char) == "Zs" or ord(char) in PICTOGRAPHS


def character_fault(name: str) -> str | None:
    """What a name holds that may not stand in it, or None."""
    char = None if name.isprintable() else next((char for char in name if not is_harmless(char)), None)
    if char is None:
        return None
    from batchgen.catalogue.wording import character_name  # Imported here: `--help` does without it.

    return f"holds a character that cannot be printed: {character_name(char)}"


def visible(line: str) -> str:
    """The same line with an escape, such as \\x1b or \\n, for each character that would do something to a terminal."""
    if line.isprintable():
        return line
    return "".join(char if is_harmless(char) else char.encode("unicode_escape").decode() for char in line)


def visible_json(line: str) -> str:
    """The same for a line of JSON, with the escapes of JSON."""
    if line.isprintable():
        return line
    return "".join(char if is_harmless(char) else json.dumps(char)[1:-1] for char in line)


def shell_word(text: str) -> str:
    """`text` as one word of a command to type: a shell reads exactly it, and a terminal shows it as it stands here."""
    if not all(map(is_harmless, text)):
        return f"$'{''.join(map(shell_character, text))}'"
    # A query of SQL reads well in double quotes.
    return f'"{text}"' if "'" in text and not SPECIAL_IN_QUOTES.search(text) else shlex.quote(text)


def shell_character(char: str) -> str:
    """A character inside $'…'. What is not harmless is its bytes in octal, of which every such shell takes three."""
    if is_harmless(char):
        return f"\\{char}" if char in "'\\" else char
    is_byte = "\udc80" <= char <= "\udcff"  # of a name that is no text
    return "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass"))


def without_key(text: str, api_key: str) -> str:
    """`text` with the key blotted out."""
    return text.replace(api_key, BLOT) if len(api_key) >= KEY_CHARS_MIN else text


def body_without_key(body: bytes, api_key: str) -> bytes:
    """The same for an answer's body."""
    return body.replace(api_key.encode(), BLOT.encode()) if len(api_key) >= KEY_CHARS_MIN else body


def error_words(error: BaseException) -> str:
    """The kind of an error of a plug-in, and what it says, if it can."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return type(error).__name__
