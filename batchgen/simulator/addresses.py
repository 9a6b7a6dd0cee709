"""Addresses of finished videos: signed, good for a while, and new at every fetch."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from starlette.requests import Request

from batchgen.simulator.ledger import Generation
from batchgen.simulator.studio import Studio

FOLDER = "/eagle/files/penguin"


@dataclass(frozen=True, slots=True)
class Signed:
    """What the query of an address says: until when it is good, which one it is, and the proof."""

    expires: str
    nonce: str
    signature: str

    @classmethod
    def of(cls, request: Request) -> Signed:
        query = request.query_params
        return cls(query.get("Expires", ""), query.get("Nonce", ""), query.get("Signature", ""))

    def is_genuine(self, secret: bytes, file: str) -> bool:
        """Whether this service signed it."""
        return hmac.compare_digest(self.signature, _sign(secret, file, self.expires, self.nonce))

    def is_expired(self, now: float) -> bool:
        """Whether `now`, in seconds since 1970, is too late."""
        return now >= float(self.expires)


def address(service: Studio, request: Request, generation: Generation) -> str:
    """A new address of the generation's video, under the host name that the fetch used."""
    until = service.clock.now() + timedelta(seconds=service.simulation.url_ttl_seconds)
    expires, nonce = f"{until.timestamp():.3f}", secrets.token_urlsafe(6)
    signature = _sign(service.secret, generation.file, expires, nonce)
    query = f"Expires={expires}&Nonce={nonce}&Signature={signature}"
    return f"http://{request.headers.get('host', '127.0.0.1')}{FOLDER}/{generation.file}?{query}"


def _sign(secret: bytes, *parts: str) -> str:
    return hmac.new(secret, "\0".join(parts).encode("utf-8", "surrogatepass"), sha256).hexdigest()
