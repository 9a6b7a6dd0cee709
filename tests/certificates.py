"""TLS for servers of the tests: a certificate authority of our own, which the clients can be made to trust."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import trustme

from batchgen.services import http


@cache
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(host: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority().issue_cert(host).configure_cert(context)
    return context


@contextmanager
def trusting_the_authority(folder: Path) -> Iterator[None]:
    """New clients trust what the authority has signed, by SSL_CERT_FILE as in a company."""
    authority().cert_pem.write_to_path(str(folder / "ca.pem"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
        http.trusted_certificates.cache_clear()
        yield
    http.trusted_certificates.cache_clear()
