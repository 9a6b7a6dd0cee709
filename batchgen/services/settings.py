"""The key and the address of the service: from the environment, else from a `.env` beside the manifest."""

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
    """The address of the service, without a version, and the key, which no representation shows."""

    base_url: str
    key: str = field(repr=False)


def variable(name: str, folder: Path) -> str:
    """A variable of the environment, else of the `.env` in `folder`; "" where neither has it."""
    from dotenv import dotenv_values

    return (os.environ.get(name) or dotenv_values(folder / ".env").get(name) or "").strip()


def read_base_url(folder: Path) -> str:
    """The address of the service for a manifest in `folder`; needs no key. Raises `UsageError` for an invalid one."""
    base_url = (variable(BASE_URL, folder) or DEFAULT_BASE_URL).rstrip("/")
    if not re.match(r"https?://[^/\s]+", base_url):
        raise UsageError(f"{BASE_URL} is {base_url!r}, which is not an address like {DEFAULT_BASE_URL}")
    if re.search(r"/v\d+$", base_url):
        raise UsageError(f"{BASE_URL} is {base_url!r}: leave the version out, as in {DEFAULT_BASE_URL}")
    return base_url


def read_settings(folder: Path) -> Settings:
    """The settings for a manifest in `folder`.

    Raises `AccountError` for a missing or malformed key, `UsageError` for an invalid address.
    """
    key = variable(KEY, folder)
    if not key:
        raise AccountError(
            f"no API key. Set {KEY} in the environment, or write {KEY}=… into {folder / '.env'}."
            "\nTo try batchgen without a key, and for nothing, add --simulate."
        )
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise AccountError(f"{KEY} holds characters that no key has (a space, a line break, a quote from a document?)")
    return Settings(read_base_url(folder), key)
