"""Where the key and the address come from: the environment, else a `.env` beside the manifest."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from batchgen.errors import AccountError, UsageError

KEY = "AIMLAPI_API_KEY"
BASE_URL = "AIMLAPI_BASE_URL"
DEFAULT_BASE_URL = "https://api.aimlapi.com"


@dataclass(frozen=True, slots=True)
class Settings:
    """The account: an address without a version, and a key that no representation shows."""

    base_url: str
    key: str = field(repr=False)


def found_in(folder: Path) -> dict[str, str]:
    """The key and the address as they stand in the environment, else in the `.env` of `folder`."""
    from dotenv import dotenv_values

    beside = {name: value for name, value in dotenv_values(folder / ".env").items() if value}
    return {name: (os.environ.get(name) or beside.get(name) or "").strip() for name in (KEY, BASE_URL)}


def read_base_url(folder: Path) -> str:
    """The service's address for a manifest in `folder`; needs no key. Raises `UsageError` where it cannot be one."""
    base_url = (found_in(folder)[BASE_URL] or DEFAULT_BASE_URL).rstrip("/")
    if not re.match(r"https?://[^/\s]+", base_url):
        raise UsageError(f"{BASE_URL} is {base_url!r}, which is not an address like {DEFAULT_BASE_URL}")
    if re.search(r"/v\d+$", base_url):
        raise UsageError(f"{BASE_URL} is {base_url!r}: leave the version out, as in {DEFAULT_BASE_URL}")
    return base_url


def read_settings(folder: Path) -> Settings:
    """The settings in force for a manifest in `folder`.

    Raises `AccountError` where there is no key, `UsageError` where the key or the address cannot be one.
    """
    key = found_in(folder)[KEY]
    if not key:
        raise AccountError(
            f"no API key. Set {KEY} in the environment, or write {KEY}=… into {folder / '.env'}."
            "\nTo try batchgen without a key, and for nothing, add --simulate."
        )
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise AccountError(f"{KEY} holds characters that no key has (a space, a line break, a quote from a document?)")
    return Settings(read_base_url(folder), key)
