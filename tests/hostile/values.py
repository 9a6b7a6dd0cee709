"""Odd values in place of good ones: as JSON, in headers, and in the bytes of a whole answer."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from typing import Any

KEY = "sk-hostile-0123456789abcdef"
"""The key that every request carries, and that every answer may repeat."""
ESCAPED_KEY = "".join(f"\\u{ord(char):04x}" for char in KEY)
DIGITS = "9" * 5_000
MARK = "@odd-{}@"
"""Stands for an odd value until the document is JSON: most odd values have no Python object."""

FRAGMENTS = [
    *("null", "true", "false", "0", "-0", "-1", "1e999", "-1e999", "1e30", "1e12", "1E-400", "0.1", "NaN", "Infinity"),
    *(DIGITS, "-" + DIGITS, "0." + DIGITS, "1" * 19, "9223372036854775808", "18446744073709551616"),
    *("[]", "{}", "[[]]", '{"url": null}', '["a", null, 1]', "[" * 900 + "]" * 900, "[" * 5_000 + "]" * 5_000),
    *('""', '" "', '"\\u0000"', '"\\ud800"', '"\\u202egpj.exe"', '"²³"', '"٣"', '"1e30"', f'"{DIGITS}"', '"-1"'),
    *('"\\u001b[2J\\u001b]52;c;cm0gLXJm\\u0007"', '"a\\n12:00:00  clip-1  done"', f'"{"x" * 100_000}"', '"…"'),
    *(f'"{KEY}"', f'"Bearer {KEY}"', f'"{ESCAPED_KEY}"', f'"https://files.test/{KEY}?a={ESCAPED_KEY}"'),
    *('"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59Z"', '"9999-12-31T23:59:59-23:59"', '"2026-11-26T00:00:00+99:99"'),
    *('"2026-11-26T00:00:00+00000000000000000001"', '"2026-W48-4"', '"2026-11-26T24:00:00Z"', '"yesterday"'),
    *('"completed"', '"error"', '"failed"', '"succeeded"', '"constructor"', '"__class__"', '"../../etc/passwd"'),
    *('"file:///etc/passwd"', '"http://[::1"', '"//evil.test/"', '"javascript:alert(1)"', '"http://a\\u0000b/"'),
]
HEADERS = {
    "Retry-After": ["-1", "1e400", "NaN", "inf", DIGITS, "Mon, 01 Jan 0001 00:00:00 GMT", "²", KEY, ""],
    "Date": ["Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "x", "Thu, 26 Nov 2026 00:00:00 +9999"],
    "Content-Type": ["text/html", f"text/{KEY}", "application/json; charset=utf-16", "\x1b[31m"],
    "Content-Encoding": ["gzip", "br", "deflate", "zstd", "gzip, gzip", KEY, "identity"],
    "Content-Length": ["0", "1", "-1", DIGITS, "1e3", "²", "5, 5", "100000000"],
    "Transfer-Encoding": ["chunked", "gzip, chunked", "identity"],
    "Set-Cookie": [f"a=b; expires=Mon, 01 Jan {DIGITS} 00:00:00 GMT", f"a={KEY}", "a=b; version=²", "=;;; domain=\x7f"],
    "ETag": [f'"{KEY}"', '"' + "x" * 9_000 + '"', 'W/"a"', "\x1b[2J", ""],
    "Location": ["/", "http://[::1", f"https://{KEY}.test/", "//", "ftp://a/"],
    "x-inference-id": [KEY, "g\x1b[2J", "g" * 6_000, "", "g-1"],
    "x-aimlapi-usd-spent": ["1e30", "NaN", "-1", DIGITS, "²", KEY, "0x10"],
    "x-aimlapi-credits-used": ["1e40", "Infinity", "-0", DIGITS, "1_000"],
}
STATUSES = [*range(200, 207), 226, *range(300, 309), *range(400, 432), 451, 499, *range(500, 512), 599, 600, 799, 999]
REASONS = ["OK", "", KEY, f"Bearer {KEY}", "\x1b[2J", "x" * 9_000, "é"]


def spoil(chance: random.Random, document: Any, most: int = 4) -> bytes:
    """The document as JSON with up to `most` odd values, names or repeated names in it."""
    spoiled = json.loads(json.dumps(document))
    fragments: dict[str, str] = {}
    for number in range(chance.randint(0, most)):
        places = list(containers(spoiled))
        if not places:
            break
        container = chance.choice(places)
        mark = MARK.format(number)
        fragments[f'"{mark}"'] = chance.choice(FRAGMENTS)
        if isinstance(container, dict):
            name = chance.choice([*container, "id", "status", "error", "message"])
            if chance.random() < 0.1:
                container.pop(name, None)
            else:
                container[name] = mark
        else:
            container[chance.randrange(len(container))] = mark
    text = json.dumps(spoiled, ensure_ascii=chance.random() < 0.5)
    for mark, fragment in fragments.items():
        text = text.replace(mark, fragment)
    return text.encode("utf-8", "surrogatepass")


def containers(value: Any) -> list[Any]:
    """Every object and filled list in a JSON value."""
    if isinstance(value, dict):
        return [value, *(inner for part in value.values() for inner in containers(part))]
    if isinstance(value, list) and value:
        return [value, *(inner for part in value for inner in containers(part))]
    return []


def wrap(chance: random.Random, body: bytes) -> tuple[bytes, dict[str, str]]:
    """The body, sometimes cut, packed, or in place of it a page; with the headers that belong to it."""
    match chance.randrange(24):
        case 0:
            return body[: chance.randrange(len(body) + 1)], {}
        case 1:
            return gzip.compress(body), {"Content-Encoding": "gzip"}
        case 2:
            return gzip.compress(body)[: chance.randrange(20) + 1], {"Content-Encoding": "gzip"}
        case 3:
            return zlib.compress(body), {"Content-Encoding": "deflate"}
        case 4:
            return b"\xef\xbb\xbf" + body, {}
        case 5:
            return body.decode("utf-8", "replace").encode("utf-16"), {}
        case 6:
            return f"<html>{KEY}<script>\x1b[2J".encode(), {"Content-Type": "text/html"}
        case 7:
            return chance.choice([b"", b"null", b"[]", b'"x"', b"\xff\xfe", b"{" * 20_000, b"nonsense", bytes(100)]), {}
        case 8:
            return bytes(chance.choice(body) if chance.random() < 0.02 else byte for byte in body), {}
    return body, {}


def answer(chance: random.Random, document: Any, *, good_share: float = 0.5) -> tuple[bytes, bytes]:
    """A whole HTTP answer that is meant to be `document`, and the JSON in it before that was packed or cut."""
    spoiled = spoil(chance, document)
    body, headers = wrap(chance, spoiled)
    status = chance.choice([200, 201]) if chance.random() < good_share else chance.choice(STATUSES)
    reason = chance.choice(REASONS) if chance.random() < 0.2 else "OK"
    headers = {"Content-Length": str(len(body)), "Connection": "close", **headers}
    for _ in range(chance.choice([0, 0, 0, 1, 2])):
        name = chance.choice(list(HEADERS))
        headers[name] = chance.choice(HEADERS[name])
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    whole = f"HTTP/1.1 {status} {reason}\r\n{lines}\r\n".encode() + body
    if chance.random() < 0.05:  # bytes anywhere, the head included
        flipped = bytearray(whole)
        for _ in range(chance.randint(1, 5)):
            flipped[chance.randrange(len(flipped))] = chance.randrange(256)
        whole = bytes(flipped)
    if chance.random() < 0.02:
        whole = b"HTTP/1.1 102 Processing\r\n\r\n" * 5 + whole
    return whole, spoiled
