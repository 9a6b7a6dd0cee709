"""The key and the address of a service, as one pair: both from the environment, or both from a `.env` file.

The `.env` lies beside the manifest, in a folder that somebody else may have written. So its address never gets a key of
the environment, and nothing in it is filled in from the environment.
"""

from __future__ import annotations

import codecs
import ipaddress
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

from batchgen.errors import AccountError, UsageError, os_reason
from batchgen.files.input_file import InputFault, read_input

LOG = logging.getLogger("batchgen.services")
ALLOW_HTTP = "BATCHGEN_ALLOW_HTTP"
"""Set to 1 in the environment, it allows `http://` to other machines. A `.env` cannot set it."""
DOTENV_BYTES_MAX = 64 << 10  # a few lines are usual; a file that is longer is something else
ADDRESS = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9](?:[a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[a-z0-9._~!$&'()*+,;=:%-]+)*)/*",
    re.IGNORECASE | re.ASCII,
)
"""An address that every library reads in the same way: no user, query or fragment, nothing that needs an encoding."""
WRONG_CHARACTER = re.compile("[\0\udc80-\udcff]")
"""NUL, or what Python reads in the place of a byte that is not UTF-8 (PEP 383)."""
SETTING = (
    r"""^[^\w#;/\n]*(?:(?:export|set|declare|typeset|setx|setenv|env)[ \t]+(?:[-/]\w+[ \t]+)*|\$env:)?"""
    r"""["']?{name}["']?(?:[ \t]*[?:+]*[:=][ \t]*|[ \t]+(?![?:+]*[:=]))(?!''|""|#)\S"""
)
"""A line of a `.env` file, of a shell, of YAML or of Docker that gives a variable a value, whatever signs begin it."""
MISNAMED = (".env.txt", "env.txt", ".env.local")
"""What editors and other programs call a `.env` file."""
SAME_CHARS = 4  # at its beginning, by which a variable with another name is known for the key
DEFAULT_PORTS = {"http": 80, "https": 443}


class NotUTF8(UsageError):
    """A `.env` has a byte that is not UTF-8: the file is to be converted."""


class UnreadableLine(UsageError):
    """One line of a `.env` cannot be read: its other lines are right."""


@dataclass(frozen=True, slots=True)
class Variables:
    """The environment variables that a service's account is read from. Without a `key`, it needs none."""

    key: str = ""
    base_url: str = ""
    default_base_url: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """The address of a service, without a version, and the key, which no representation shows."""

    base_url: str
    key: str = field(default="", repr=False)


def read_public_account(variables: Variables, folder: Path) -> Account:
    """The account without its key, for requests that need none: the address that a run would use.

    Raises `UsageError` for an invalid address, an address whose key comes from elsewhere, an unreadable `.env`.
    """
    return Account(read_pair(variables, folder).base_url)


def read_account(variables: Variables, folder: Path) -> Account:
    """The account for a manifest in `folder`.

    Raises `AccountError` for a missing or malformed key, otherwise `UsageError` as `read_public_account` does.
    """
    pair = read_pair(variables, folder)
    if variables.key and not pair.key:
        raise AccountError(
            f"no API key. Set {variables.key} in the environment, or write {variables.key}=… into {folder / '.env'}"
            f"{unread_words(variables, folder)}.\nTo try batchgen without a key, and for nothing, add --simulate."
        )
    if pair.key and not re.fullmatch(r"[\x21-\x7e]+", pair.key):
        raise AccountError(
            f"{variables.key} holds characters that no key has (a space, a line break, a quote from a document?)"
        )
    return pair


def unread_words(variables: Variables, folder: Path) -> str:
    """Why a name or a file that is there gives no key; nothing where there is none. Values are not shown."""
    for name in (*os.environ, *read_dotenv(folder / ".env", variables)):
        if "KEY" in name and name[:SAME_CHARS] == variables.key[:SAME_CHARS] and name != variables.key:
            return f": {name}, which is there, is not read under this name"
    if (folder / ".env").exists():
        return f", which is there and gives {variables.key} no value"
    other = next((name for name in MISNAMED if os.path.lexists(folder / name)), "")
    return f": {other}, which lies there, is not read under this name" if other else ""


def read_pair(variables: Variables, folder: Path) -> Account:
    """Key and address from the source that has the key: the environment, else the `.env` in `folder`.

    Where the other source names another address, the key could go to the wrong one, so that a person has to decide.
    """
    path = folder / ".env"
    key, address = (os.environ.get(name, "").strip() for name in (variables.key, variables.base_url))
    if not variables.base_url or (address and (key or not variables.key)):
        return Account(normal_address(address, variables, "the environment"), key)
    try:
        beside = read_dotenv(path, variables)
    except UsageError as error:
        if not key:
            raise
        LOG.warning(f"{error}. It is left out, since the environment has the key", extra={"is_sentence": True})
        beside = {}
    other_key, other_address = (beside.get(name, "").strip() for name in (variables.key, variables.base_url))
    source, other = "the environment", str(path)
    if other_key and not key:
        source, other = other, source
        key, address, other_address = other_key, other_address, address
    if not key:  # no key can go anywhere
        return Account(normal_address(address or other_address, variables, source if address else other))
    base_url = normal_address(address, variables, source)
    if other_address and normal_address(other_address, variables, other) != base_url:
        raise UsageError(
            f"{variables.key} comes from {source}, and {variables.base_url} from {other}. A key is sent only to the"
            f" address that stands beside it. To use that address, set {variables.base_url} in {source} too;"
            f" otherwise remove it from {other}."
        )
    return Account(base_url, key)


def read_dotenv(path: Path, variables: Variables) -> Mapping[str, str]:
    """The variables of a `.env` file, as they are written there; none where it does not exist. Raises `UsageError`."""
    try:
        content = read_input(path, DOTENV_BYTES_MAX)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {os_reason(error)}") from error
    except InputFault as error:
        raise UsageError(f"{path}: {error}. Remove it, or set the variables in the environment") from error
    return parse_dotenv(content, path, variables)


def parse_dotenv(content: bytes, path: Path, variables: Variables) -> Mapping[str, str]:
    """The variables of a `.env` file's content. Raises `UsageError` where it is not UTF-8, or UTF-16 with its mark.

    A wrong byte matters only where the key is not read all the same, as from a comment in another encoding.
    """
    from dotenv import dotenv_values

    logging.getLogger("dotenv").setLevel(logging.ERROR)  # it would name a line that it cannot read, and no file
    try:
        # PowerShell's `>` writes UTF-16, with a mark at its beginning.
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16") if is_utf16 else content.decode("utf-8-sig", "surrogateescape")
    except UnicodeDecodeError:
        raise UsageError(f"{path} begins as UTF-16 and is none; save the file as UTF-8") from None
    # With interpolation, a line such as ADDRESS=https://example.com/${KEY} would send the key of the environment away.
    values = {name: value for name, value in dotenv_values(stream=StringIO(text), interpolate=False).items() if value}
    wrong = WRONG_CHARACTER.search(text)
    needed = values.get(variables.key, ""), values.get(variables.base_url, "")
    if wrong and not (needed[0] and not WRONG_CHARACTER.search("".join(needed))):
        line = text[: wrong.start()].count("\n") + 1
        if wrong[0] == "\0":
            raise UsageError(f"{path}: there is a NUL character in line {line} (UTF-16?); save the file as UTF-8")
        byte = wrong[0].encode("utf-8", "surrogateescape")
        raise NotUTF8(f"{path}: byte 0x{byte.hex()} in line {line} is not UTF-8; save the file as UTF-8")
    for name in filter(None, (variables.key, variables.base_url)):
        # Without its address, a key would go to the default one.
        if name not in values and (setting := re.search(SETTING.format(name=name), text, re.MULTILINE | re.IGNORECASE)):
            line = text[: setting.start()].count("\n") + 1
            raise UnreadableLine(f"{path}:{line}: {name} cannot be read here. Write {name}=… on a line of its own")
    return values


def normal_address(address: str, variables: Variables, source: str) -> str:
    """An address in its normal form, or the default one for "". Raises `UsageError`, without repeating a password."""
    if not address:
        return variables.default_base_url

    def wrong(reason: str) -> UsageError:
        return UsageError(f"{variables.base_url} in {source} {reason}, as in {variables.default_base_url}")

    parts = ADDRESS.fullmatch(address)
    if not parts or not is_host(parts["host"]) or not 0 < int(parts["port"] or 1) < 65_536:
        if "@" in address:
            raise wrong("holds a user name or a password: write the address alone")
        if re.search(r"[?#]", address):
            raise wrong("holds a query or a fragment (? or #): write the address alone")
        raise wrong("is not an address: write the scheme, the host and perhaps a port")
    path = parts["path"]
    if re.search(r"/\.\.?(/|$)|%2e|%2f|%5c", path, re.IGNORECASE):
        raise wrong("leads through . or ..: write the path as it is")
    if re.search(r"/v\d+$", path):
        raise wrong("ends with a version: leave it out")
    base_url = origin_of(address) + path
    if base_url.startswith("http:") and not is_loopback(parts["host"]) and os.environ.get(ALLOW_HTTP) != "1":
        raise UsageError(
            f"{variables.base_url} in {source} is {base_url}, which would send the key without encryption."
            f" Use https://, or set {ALLOW_HTTP}=1 in the environment where the network is your own."
        )
    return base_url


def is_host(host: str) -> bool:
    """Whether a host is a name, or an IP address that all libraries read in the same way."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        # Some libraries take 127.1, 0x7f.1 or 2130706433 for an IP address, others for a name.
        return not host.startswith("[") and not re.search(r"(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$", host, re.IGNORECASE)
    return True


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: 127.0.0.0/8, ::1 or localhost."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def origin_of(url: str) -> str:
    """Scheme, host and port of an address (RFC 6454), such as `https://api.example.com`. Raises `ValueError`."""
    parts = urlsplit(url)
    scheme, host, port = parts.scheme.lower(), (parts.hostname or "").lower(), parts.port
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" + (f":{port}" if port and port != DEFAULT_PORTS.get(scheme) else "")
