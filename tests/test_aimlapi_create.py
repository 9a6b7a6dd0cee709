"""A create call: what each answer means for the money, and that there is never a second request on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from batchgen.services import http
from batchgen.services.aimlapi import AimlApi
from batchgen.services.base import (
    Accepted,
    Blocked,
    Limit,
    NotSent,
    Rejected,
    Submission,
    SubmitOutcome,
    Throttled,
    Trouble,
    Unknown,
)
from tests.wire import HANG, Drip, Reset, answer, closed_port, serving

KEY = "sk-secret-0123456789"
ASKED = Submission("/v2/video/generations", b'{"model": "m", "prompt": "caf\xc3\xa9"}', "batchgen-0a1b")


@asynccontextmanager
async def service(base_url: str) -> AsyncIterator[AimlApi]:
    api = AimlApi(base_url, KEY)
    try:
        yield api
    finally:
        await api.close()


def error(status: int, message: Any = "said", **headers: str) -> bytes:
    """The service's own form of an error."""
    told = {"message": message, "path": "/", "requestId": "r", "statusCode": status, "timestamp": "2026"}
    return answer(status, told, {name.replace("_", "-"): value for name, value in headers.items()})


def slow(seconds: float | None = None) -> Throttled:
    return Throttled("429: said", None if seconds is None else timedelta(seconds=seconds))


CREATED = {"id": "g-1", "status": "queued"}
DIGITS = 789339022468063304
LONG = "b906d239-77b0:kling-video/v2.1/master/image-to-video"
ANSWERS: list[tuple[str, bytes, SubmitOutcome]] = [
    ("200", answer(200, CREATED), Accepted("g-1", None, 200)),
    ("201", answer(201, CREATED), Accepted("g-1", None, 201)),
    ("an id with : and /", answer(201, {"id": LONG}), Accepted(LONG, None, 201)),
    ("digits as text", answer(201, {"id": str(DIGITS)}), Accepted(str(DIGITS), None, 201)),
    (
        "digits as a number",
        answer(201, {"id": DIGITS}),
        Accepted(str(DIGITS), None, 201),
    ),
    ("generation_id for id", answer(200, {"generation_id": "g-1"}), Accepted("g-1", None, 200)),
    ("the id in a header alone", answer(200, {}, {"x-inference-id": "g-h"}), Accepted("g-h", None, 200)),
    (
        "a cut body, the id in a header",
        answer(200, b'{"id', {"x-inference-id": "g-h"}),
        Accepted("g-h", None, 200),
    ),
    (
        "what it cost, in USD",
        answer(201, CREATED, {"x-aimlapi-usd-spent": "0.2800005", "x-aimlapi-credits-used": "9"}),
        Accepted("g-1", Decimal("0.2800005"), 201),
    ),
    (
        "what it cost, in credits",
        answer(201, CREATED, {"x-aimlapi-credits-used": "560001"}),
        Accepted("g-1", Decimal("0.2800005"), 201),
    ),
    *(
        (f"a cost of {odd}", answer(201, CREATED, {"x-aimlapi-usd-spent": odd}), Accepted("g-1", None, 201))
        for odd in ("", "much", "-1", "NaN", "Infinity", "1e30", "1e9999999", "-1e9999999")
    ),
    ("400", error(400, "duration must be 5"), Rejected("400: duration must be 5", 400)),
    ("400 with a list", error(400, ["a", "b"]), Rejected("400: a; b", 400)),
    ("400 with an error in it", answer(400, {"error": {"message": "no"}}), Rejected("400: no", 400)),
    ("400 with nothing in it", answer(400), Rejected("400: Bad Request", 400)),
    ("400 with a page", answer(400, b"<html>no</html>"), Rejected("400: <html>no</html>", 400)),
    ("413", error(413), Rejected("413: said", 413)),
    ("422", error(422), Rejected("422: said", 422)),
    ("401", error(401), Blocked(Trouble.AUTH, "401: said", 401)),
    ("402", error(402), Blocked(Trouble.CREDITS, "402: said", 402)),
    ("403", error(403), Blocked(Trouble.CREDITS, "403: said", 403)),
    ("404", error(404), Blocked(Trouble.ADDRESS, "404: said", 404)),
    ("405", error(405), Blocked(Trouble.ADDRESS, "405: said", 405)),
    ("429", error(429), slow()),
    ("429 with seconds", error(429, retry_after="7"), slow(7)),
    ("429 with a part of one", error(429, retry_after="0.5"), slow(0.5)),
    ("429 with a negative", error(429, retry_after="-3"), slow(0)),
    ("429 with nonsense", error(429, retry_after="soon"), slow()),
    ("429 with an age of the world", error(429, retry_after="9e99"), slow(86_400)),
    *(
        (f"{status}", error(status), Unknown(f"{status}: said", status))
        for status in (408, 409, 500, 502, 503, 504, 599)
    ),
    ("a 2xx that is empty", answer(200), Unknown("200 without a generation id: empty", 200)),
    ("a 2xx that is a page", answer(200, b"<html>"), Unknown("200 without a generation id: <html>", 200)),
    ("a 2xx that is a list", answer(200, [1]), Unknown("200 without a generation id: [1]", 200)),
    ("a 2xx with an empty id", answer(200, {"id": " "}), Unknown('200 without a generation id: {"id": " "}', 200)),
    ("a 2xx that is no text", answer(200, b"\xff\xfe"), Unknown("200 without a generation id: \ufffd\ufffd", 200)),
    ("a 204", answer(204, headers={"Content-Length": None}), Unknown("204 without a generation id: empty", 204)),
    (
        "a text in an encoding that is none",
        answer(500, b"oops", {"Content-Type": "text/plain; charset=base64"}),
        Unknown("500: oops", 500),
    ),
]


@pytest.mark.parametrize(("name", "told", "outcome"), ANSWERS, ids=[name for name, *_ in ANSWERS])
async def test_an_answer_to_a_create_has_one_meaning(name: str, told: bytes, outcome: SubmitOutcome) -> None:
    async with serving(told) as wire, service(wire.base_url) as api:
        assert await api.submit(ASKED) == outcome
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 13:00:00 +0100", 0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
    ],
)
async def test_a_pause_until_a_date_is_counted_from_now(clock: object, date: str, seconds: float) -> None:
    async with serving(error(429, retry_after=date)) as wire, service(wire.base_url) as api:
        assert await api.submit(ASKED) == slow(seconds)


REDIRECTS = [301, 302, 303, 307, 308]


@pytest.mark.parametrize("status", REDIRECTS)
async def test_a_redirect_is_not_followed_with_the_key(status: int) -> None:
    async with serving(answer(200, CREATED)) as other:
        moved = answer(status, headers={"Location": f"{other.base_url}/v2/video/generations"})
        async with serving(moved) as wire, service(wire.base_url) as api:
            assert isinstance(await api.submit(ASKED), Unknown)
    assert (len(wire.requests), len(other.requests)) == (1, 0)


async def test_the_request_is_exactly_what_was_asked() -> None:
    async with serving(answer(201, CREATED)) as wire, service(wire.base_url + "/") as api:
        await api.submit(ASKED)
    (request,) = wire.requests
    assert (request.method, request.target, request.body) == ("POST", ASKED.endpoint, ASKED.body)
    assert request.headers["x-client-request-id"] == "batchgen-0a1b"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"


WHOLE = answer(201, {**CREATED, "more": "x" * 40}, {"x-inference-id": "g-1", "x-aimlapi-usd-spent": "0.28"})


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_an_answer_cut_at_any_byte_is_never_taken_for_not_sent(reset: bool) -> None:
    cuts = range(len(WHOLE))
    script = [Reset(WHOLE[:cut]) if reset else WHOLE[:cut] for cut in cuts]
    async with serving(*script) as wire, service(wire.base_url) as api:
        for cut in cuts:
            outcome = await api.submit(ASKED)
            assert isinstance(outcome, Unknown), (cut, outcome)
            assert len(wire.requests) == cut + 1


async def test_an_answer_without_a_length_that_is_cut_is_unknown_or_whole() -> None:
    """The end of the connection is the end of such a body: what of it reads as JSON with an id is the answer."""
    whole = answer(201, CREATED, {"Content-Length": None})
    start = whole.index(b"\r\n\r\n") + 4
    async with serving(*(whole[:cut] for cut in range(start, len(whole) + 1))) as wire, service(wire.base_url) as api:
        for cut in range(start, len(whole) + 1):
            outcome = await api.submit(ASKED)
            assert isinstance(outcome, Accepted if cut == len(whole) else Unknown), (cut, outcome)
    assert len(wire.requests) == len(whole) - start + 1


async def test_an_answer_that_comes_byte_by_byte_is_read() -> None:
    dripped = Drip([WHOLE[at : at + 1] for at in range(len(WHOLE))])
    async with serving(dripped) as wire, service(wire.base_url) as api:
        assert await api.submit(ASKED) == Accepted("g-1", Decimal("0.28"), 201)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(b"\x16\x03\x01", id="not HTTP"),
        pytest.param(b"HTTP/1.1 abc\r\n\r\n", id="no status"),
        pytest.param(answer(200, b"xx", {"Content-Encoding": "gzip"}), id="packed, but not so"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="chunks that are none"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"a: " + b"x" * 200_000 + b"\r\n\r\n", id="a head without an end"),
    ],
)
async def test_an_answer_that_cannot_be_read_is_unknown(told: bytes) -> None:
    async with serving(told) as wire, service(wire.base_url) as api:
        assert isinstance(await api.submit(ASKED), Unknown)
    assert len(wire.requests) == 1


async def test_no_answer_in_time_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SUBMIT_SECONDS", 0.2)
    async with serving(HANG) as wire, service(wire.base_url) as api:
        assert await api.submit(ASKED) == Unknown("no answer in time")
    assert len(wire.requests) == 1


async def test_nobody_there_is_proof_that_nothing_was_sent() -> None:
    async with service(f"http://127.0.0.1:{closed_port()}") as api:
        outcome = await api.submit(ASKED)
    assert isinstance(outcome, NotSent)
    assert outcome.reason


async def test_a_handshake_that_fails_is_proof_that_nothing_was_sent() -> None:
    async with serving(answer(201, CREATED)) as wire, service(wire.base_url.replace("http:", "https:")) as api:
        assert isinstance(await api.submit(ASKED), NotSent)
    assert wire.requests == []


@pytest.mark.parametrize("address", ["http://[::1", "http://a:b", "http://x..y/", "http://127.0.0.1:99999"])
async def test_an_address_that_is_none_blocks(address: str) -> None:
    async with service(address) as api:
        outcome = await api.submit(ASKED)
    assert isinstance(outcome, Blocked | NotSent)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
async def test_the_key_is_in_no_reason_even_if_the_service_repeats_it(status: int) -> None:
    async with serving(error(status, f"Incorrect API key provided: {KEY}.")) as wire, service(wire.base_url) as api:
        outcome = await api.submit(ASKED)
        fetched = await api.fetch(ASKED.endpoint, "g-1")
    assert KEY not in repr(outcome)
    assert KEY not in repr(fetched)
    assert "Incorrect API key provided: " in repr(outcome)
    assert KEY not in repr(api)


async def test_the_key_is_in_no_reason_where_a_long_page_is_cut_short() -> None:
    page = ("x" * 190 + KEY + "y" * 100).encode()
    async with serving(answer(200, page)) as wire, service(wire.base_url) as api:
        assert KEY[:8] not in repr(await api.submit(ASKED))


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ("Too many requests. Slow down and try again.", None),
        ("Rate limit exceeded", None),
        ("Rate or concurrency limit: 3 requests per second, 5 concurrent", None),
        ("You may have 5 concurrent generations", Limit.IN_FLIGHT),
        ("Too many tasks in progress", Limit.IN_FLIGHT),
        ("Limit of 20 requests per minute reached", Limit.RATE),
        ("Your daily limit is reached", Limit.QUOTA),
        ("Quota exceeded", Limit.QUOTA),
    ],
)
async def test_a_429_names_its_limit_or_does_not(words: str, limit: Limit | None) -> None:
    async with serving(error(429, words)) as wire, service(wire.base_url) as api:
        outcome = await api.submit(ASKED)
    assert isinstance(outcome, Throttled)
    assert outcome.limit is limit


def test_an_account_s_label_is_its_own_and_tells_nothing_of_the_key() -> None:
    key = "sk-1234567890"
    labels = [AimlApi("https://api.test", each).account for each in (key, key, key + "1")]
    assert labels[0] == labels[1] != labels[2]
    assert not any(part in labels[0] for part in (key[-4:], key[:4]))
