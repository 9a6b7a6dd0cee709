"""Text from outside: made printable, bounded in length, and without the key."""

BLOT = "…"
"""Stands where a key was: a service may repeat the one that it refuses."""
KEY_CHARS_MIN = 8  # of a key that is blotted out: a shorter one is no secret, and would damage ordinary words
JOINERS = "\u200c\u200d"  # invisible, and parts of emoji and of words


def printable(text: str, most: int) -> str:
    """One line of at most `most` characters. What moves a cursor, breaks a line or turns its direction is a space."""
    return "".join(char if char.isprintable() or char in JOINERS else " " for char in text[:most]).strip()


def without_key(text: str, key: str) -> str:
    """`text` with the key blotted out."""
    return text.replace(key, BLOT) if len(key) >= KEY_CHARS_MIN else text


def body_without_key(body: bytes, key: str) -> bytes:
    """The same for an answer's body."""
    return body.replace(key.encode(), BLOT.encode()) if len(key) >= KEY_CHARS_MIN else body
