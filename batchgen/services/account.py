"""The key and the address of a service: from the environment, else from a `.env` beside the manifest."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from batchgen.errors import AccountError, UsageError


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


def read_variable(name: str, folder: Path) -> str:
    """A variable of the environment, else of the `.env` in `folder`; "" where neither has it."""
    from dotenv import dotenv_values

    return (os.environ.get(name) or dotenv_values(folder / ".env").get(name) or "").strip()


def read_public_account(variables: Variables, folder: Path) -> Account:
    """The account without its key, for requests that need none. Raises `UsageError` for an invalid address."""
    if not variables.base_url:
        return Account(variables.default_base_url)
    base_url = (read_variable(variables.base_url, folder) or variables.default_base_url).rstrip("/")
    if not re.match(r"https?://[^/\s]+", base_url):
        raise UsageError(
            f"{variables.base_url} is {base_url!r}, which is not an address like {variables.default_base_url}"
        )
    if re.search(r"/v\d+$", base_url):
        raise UsageError(
            f"{variables.base_url} is {base_url!r}: leave the version out, as in {variables.default_base_url}"
        )
    return Account(base_url)


def read_account(variables: Variables, folder: Path) -> Account:
    """The account for a manifest in `folder`.

    Raises `AccountError` for a missing or malformed key, `UsageError` for an invalid address.
    """
    public = read_public_account(variables, folder)
    if not variables.key:
        return public
    key = read_variable(variables.key, folder)
    if not key:
        raise AccountError(
            f"no API key. Set {variables.key} in the environment, or write {variables.key}=… into {folder / '.env'}."
            "\nTo try batchgen without a key, and for nothing, add --simulate."
        )
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise AccountError(
            f"{variables.key} holds characters that no key has (a space, a line break, a quote from a document?)"
        )
    return Account(public.base_url, key)
