"""Whether an address answers, by one question without a key: free, and no job is concerned."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import partial

from batchgen import clock
from batchgen.errors import UsageError
from batchgen.services import http
from batchgen.services.answers import parse_date
from batchgen.services.client import ApiClient
from batchgen.services.matching import SERVICE_CLOCK_LAG
from batchgen.services.outcomes import Unavailable

REACH_SECONDS = 10.0  # for the one question: whoever types a command waits for it
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
CLOCK_FAULT = "this machine's clock is"
"""How the sentence of `clock_fault` begins, whatever the minutes are."""


async def reach(base_url: str) -> Unavailable | timedelta | None:
    """Ask an address for anything: whatever it answers, it can be reached. Raises `UsageError` as `ApiClient` does.

    Returns how far the service's clock is ahead of this machine's; None where the answer has no date that can be read.
    """
    client = ApiClient(base_url, "")
    try:
        answer = await client.ask("/", with_key=False, seconds=REACH_SECONDS)
    finally:
        await client.close()
    if isinstance(answer, Unavailable):
        return answer
    date = parse_date(answer.headers.get("date", ""))
    return date - clock.utcnow() if date else None


def clock_fault(offset: timedelta) -> str:
    """By how much this machine's clock is wrong where the service's is ahead of it by `offset`; "" where both agree."""
    if abs(offset) <= SERVICE_CLOCK_LAG:
        return ""
    direction = "behind" if offset > timedelta(0) else "ahead of"
    minutes = round(abs(offset).total_seconds() / 60)
    return f"this machine's clock is {minutes:,} minutes {direction} the service's"


def network_fault() -> tuple[str, list[str]]:
    """Why no request can be sent from this environment, and the variables that are to blame; "" where one can."""
    make_client = partial(http.new_client, 1)
    for make, variables in ((http.trusted_certificates, CERTIFICATE_VARIABLES), (make_client, PROXY_VARIABLES)):
        try:
            make()
        except UsageError as error:
            return str(error), [name for name in variables if os.environ.get(name)]
    return "", []
