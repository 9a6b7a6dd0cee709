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


def read_settings(folder: Path) -> Settings:
    """The settings in force for a manifest in `folder`.

    Raises `AccountError` where there is no key, `UsageError` where the key or the address cannot be one.
    """
    from dotenv import dotenv_values

    beside = {name: value for name, value in dotenv_values(folder / ".env").items() if value}
    key = (os.environ.get(KEY) or beside.get(KEY) or "").strip()
    base_url = (os.environ.get(BASE_URL) or beside.get(BASE_URL) or DEFAULT_BASE_URL).strip().rstrip("/")
    if not key:
        raise AccountError(
            f"no API key. Set {KEY} in the environment, or write {KEY}=… into {folder / '.env'}."
            "\nTo try batchgen without a key, and for nothing, add --simulate."
        )
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise AccountError(f"{KEY} holds characters that no key has (a space, a line break, a quote from a document?)")
    if not re.match(r"https?://[^/\s]+", base_url):
        raise UsageError(f"{BASE_URL} is {base_url!r}, which is not an address like {DEFAULT_BASE_URL}")
    if re.search(r"/v\d+$", base_url):
        raise UsageError(f"{BASE_URL} is {base_url!r}: leave the version out, as in {DEFAULT_BASE_URL}")
    return Settings(base_url, key)
