"""The host of a link: whether there can be one of this name, and whether a service can reach it."""

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

LABEL = re.compile(r"[\w-]*\w[\w-]*")
"""A part of a name between dots. Other alphabets count as letters."""
OWN_NETWORK = re.compile(r"[^.]+|.+\.(local|lan|internal|localhost|home\.arpa)", re.IGNORECASE)
"""Names that only a network of one's own knows."""


@lru_cache(maxsize=1_000)
def is_usable(address: str) -> bool:
    """Whether an address, which is a host and perhaps a user and a port, can be connected to at all."""
    try:
        parts = urlsplit(f"//{address}")
        host = (parts.hostname or "").removesuffix(".")
        return parts.port != 0 and (":" in host or all(map(LABEL.fullmatch, host.split("."))))
    except ValueError:
        return False


@lru_cache(maxsize=1_000)
def is_in_own_network(address: str) -> bool:
    """Whether a usable address is one that only the user's own machine or network can reach."""
    host = (urlsplit(f"//{address}").hostname or "").removesuffix(".")
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return OWN_NETWORK.fullmatch(host) is not None
