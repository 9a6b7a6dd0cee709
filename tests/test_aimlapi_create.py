"""A create call: what each answer means for the money, and that there is never a second request on the wire."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from batchgen.jobs import ErrorClass
from batchgen.services import http
from batchgen.services.aimlapi import AimlApi, handle_of
from batchgen.services.base import LocalFile, Submission
from batchgen.services.outcomes import (
    Accepted,
    Blocked,
    Limit,
    NotSent,
    Rejected,
    SubmitOutcome,
    Throttled,
    Trouble,
    Unknown,
)
from tests.wire import HANG, Drip, Reset, answer, serving

KEY = "sk-secret-0123456789"
SUBMISSION = Submission("m", "/v2/video/generations", '{"model": "m", "prompt": "café"}', "batchgen-0a1b")


@asynccontextmanager
async def service(base_url: str) -> AsyncIterator[AimlApi]:
    api = AimlApi(base_url, KEY)
    try:
        yield api
    finally:
        await api.close()


def error(status: int, message: Any = "sorry", **headers: str) -> bytes:
    """The service's own form of an error."""
    body = {"message": message, "path": "/", "requestId": "r", "statusCode": status, "timestamp": "2026"}
    return answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def throttled(seconds: float | None = None) -> Throttled:
    return Throttled("429: sorry", None if seconds is None else timedelta(seconds=seconds))


CREATED = {"id": "g-1", "status": "queued"}
DIGITS = 789339022468063304
LONG = "b906d239-77b0:kling-video/v2.1/master/image-to-video"
NESTED = Rejected("400: " + '{"error":' * 22 + '{"', 400)
ANSWERS: list[tuple[str, bytes, SubmitOutcome]] = [
    ("200", answer(200, CREATED), Accepted("g-1", None, 200)),
    ("201", answer(201, CREATED), Accepted("g-1", None, 201)),
    (
        "no id but a yes",
        answer(201, {"id": True, "generation_id": 0.5}),
        Unknown('201 without a generation id: {"id": true, "generation_id": 0.5}', 201),
    ),
    ("the second of two names is an id", answer(201, {"id": True, "generation_id": "g-1"}), Accepted("g-1", None, 201)),
    *(
        (
            f"{status}, given to another request",
            answer(status, CREATED, {"x-client-request-id": "batchgen-of-another"}),
            Unknown(f"{status}: a proxy gave the answer to another request (batchgen-of-another)", status),
        )
        for status in (201, 400, 401, 404, 429)
    ),
    ("an id with : and /", answer(201, {"id": LONG}), Accepted(LONG, None, 201)),
    ("digits as text", answer(201, {"id": str(DIGITS)}), Accepted(str(DIGITS), None, 201)),
    ("digits as a number", answer(201, {"id": DIGITS}), Accepted(str(DIGITS), None, 201)),
    ("generation_id for id", answer(200, {"generation_id": "g-1"}), Accepted("g-1", None, 200)),
    ("the id in a header alone", answer(200, {}, {"x-inference-id": "g-h"}), Accepted("g-h", None, 200)),
    ("a cut body, the id in a header", answer(200, b'{"id', {"x-inference-id": "g-h"}), Accepted("g-h", None, 200)),
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
        (
            f"what it cost, in the body: {usage}",
            answer(201, {**CREATED, "meta": {"usage": usage}}),
            Accepted("g-1", cost, 201),
        )
        for usage, cost in (
            ({"credits_used": 560001}, Decimal("0.2800005")),
            ({"usd_spent": 0.2800005}, Decimal("0.2800005")),
            ({"usd_spent": "0.28"}, Decimal("0.28")),
            ({"credits_used": 0, "usd_spent": 0}, None),
            ({"credits_used": "much"}, None),
            ([560001], None),
        )
    ),
    *(
        (f"a cost of {value}", answer(201, CREATED, {"x-aimlapi-usd-spent": value}), Accepted("g-1", None, 201))
        for value in ("", "much", "-1", "NaN", "Infinity", "1e9999999", "-1e9999999")
    ),
    ("400", error(400, "duration must be 5"), Rejected("400: duration must be 5", 400)),
    ("400 with a list", error(400, ["a", "b"]), Rejected("400: a; b", 400)),
    ("400 with an error in it", answer(400, {"error": {"message": "no"}}), Rejected("400: no", 400)),
    (
        "400 with details",
        answer(400, {"message": "Invalid", "error": {"detail": [{"loc": ["body", "duration"], "msg": "must be 5"}]}}),
        Rejected("400: Invalid: body.duration: must be 5", 400),
    ),
    (
        "422 with details alone",
        answer(422, {"detail": [{"loc": ["prompt"], "msg": "too long"}, {"loc": ["seed"], "msg": "not a number"}]}),
        Rejected("422: prompt: too long; seed: not a number", 422),
    ),
    ("422 with a detail that is a text", answer(422, {"detail": "no such app"}), Rejected("422: no such app", 422)),
    (
        "400 with the status's name beside the message",
        answer(400, {"message": "no", "error": "Bad Request", "statusCode": "400"}),
        Rejected("400: no", 400),
    ),
    ("400 with details that nest without end", answer(400, b'{"error":' * 900 + b"1" + b"}" * 900), NESTED),
    ("400 with nothing in it", answer(400), Rejected("400: Bad Request", 400)),
    ("400 with a page", answer(400, b"<html>no</html>"), Rejected("400: <html>no</html>", 400)),
    ("413", error(413), Rejected("413: sorry", 413)),
    ("422", error(422), Rejected("422: sorry", 422)),
    ("451", error(451), Rejected("451: sorry", 451, ErrorClass.MODERATION)),
    *(
        (f"400: {words}", error(400, words), Rejected(f"400: {words}", 400, ErrorClass.MODERATION))
        for words in ("Blocked by moderation", "The prompt violates our content policy", "NSFW content")
    ),
    ("401", error(401), Blocked(Trouble.AUTH, "401: sorry", 401)),
    ("402", error(402), Blocked(Trouble.CREDITS, "402: sorry", 402)),
    ("403", error(403), Blocked(Trouble.CREDITS, "403: sorry", 403)),
    *(
        (f"403: {words}", error(403, words), Blocked(Trouble.KEY, f"403: {words}", 403))
        for words in (
            "The key lacks the scope model:generate",
            "You have reached the limit of the key",
            "This API key has exceeded its spending limit",
            "Insufficient permissions",
        )
    ),
    *(
        (f"403: {words}", error(403, words), Blocked(Trouble.CREDITS, f"403: {words}", 403))
        for words in (
            *("You have run out of credits", "Your plan's limit is reached"),
            *("Forbidden: this content is of a higher plan", "Your account violates our content policy"),
        )
    ),
    *(
        (f"403: {words}", error(403, words), Rejected(f"403: {words}", 403, ErrorClass.MODERATION))
        for words in ("Your prompt was rejected by our content moderation", "content_policy_violation", "NSFW image")
    ),
    ("404", error(404), Blocked(Trouble.ADDRESS, "404: sorry", 404)),
    ("405", error(405), Blocked(Trouble.ADDRESS, "405: sorry", 405)),
    ("429", error(429), throttled()),
    ("429 with seconds", error(429, retry_after="7"), throttled(7)),
    *(
        (f"{status}", error(status), Unknown(f"{status}: sorry", status))
        for status in (408, 409, 500, 502, 503, 504, 599)
    ),
    ("a 2xx that is empty", answer(200), Unknown("200 without a generation id: empty", 200)),
    ("a 2xx that is a page", answer(200, b"<html>"), Unknown("200 without a generation id: <html>", 200)),
    ("a 2xx that is a list", answer(200, [1]), Unknown("200 without a generation id: [1]", 200)),
    ("a 2xx with an empty id", answer(200, {"id": " "}), Unknown('200 without a generation id: {"id": " "}', 200)),
    ("a 2xx that is not text", answer(200, b"\xff\xfe"), Unknown("200 without a generation id: \ufffd\ufffd", 200)),
    ("a 204", answer(204, headers={"Content-Length": None}), Unknown("204 without a generation id: empty", 204)),
    (
        "an encoding that does not exist",
        answer(500, b"oops", {"Content-Type": "text/plain; charset=base64"}),
        Unknown("500: oops", 500),
    ),
]


async def test_an_answer_to_a_create_has_one_meaning() -> None:
    async with serving(*(reply for _, reply, _ in ANSWERS)) as wire, service(wire.base_url) as api:
        for number, (name, _, outcome) in enumerate(ANSWERS, 1):
            result = await api.submit(SUBMISSION)
            if isinstance(result, Accepted):
                handle = {"generation_id": result.generation_id, "endpoint": SUBMISSION.endpoint}
                assert result.handle == handle, name
                result = replace(result, handle={})
            assert result == outcome, name
            assert len(wire.requests) == number, name


async def test_a_pause_until_a_date_is_counted_from_now(clock: object) -> None:
    """What else is a pause is in test_pauses."""
    async with serving(error(429, retry_after="Sun, 01 Mar 2026 12:00:30 GMT")) as wire, service(wire.base_url) as api:
        assert await api.submit(SUBMISSION) == throttled(30)


REDIRECTS = [301, 302, 303, 307, 308]


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    async with serving(answer(200, CREATED)) as other:
        place = {"Location": f"{other.base_url}/v2/video/generations"}
        moved = [answer(status, headers=place) for status in REDIRECTS]
        async with serving(*moved) as wire, service(wire.base_url) as api:
            for number, status in enumerate(REDIRECTS, 1):
                assert isinstance(await api.submit(SUBMISSION), Unknown), status
                assert (len(wire.requests), len(other.requests)) == (number, 0), status


async def test_a_create_sends_the_submission_unchanged_and_names_its_attempt() -> None:
    async with serving(answer(201, CREATED)) as wire, service(wire.base_url + "/") as api:
        await api.submit(SUBMISSION)
    (request,) = wire.requests
    assert (request.method, request.target, request.body) == ("POST", SUBMISSION.endpoint, SUBMISSION.request.encode())
    assert request.headers["x-client-request-id"] == "batchgen-0a1b"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"


async def test_a_local_file_travels_in_its_place_as_a_data_uri() -> None:
    files = {"/image_url": LocalFile("mona.png", "image/png", b"a portrait")}
    submission = replace(SUBMISSION, request='{"prompt": "café", "image_url": "mona.png"}', files=files)
    async with serving(answer(201, CREATED)) as wire, service(wire.base_url) as api:
        await api.submit(submission)
    uri = "data:image/png;base64," + base64.b64encode(b"a portrait").decode()
    assert json.loads(wire.requests[0].body) == {"prompt": "café", "image_url": uri}


WHOLE = answer(201, {**CREATED, "more": "x" * 40}, {"x-inference-id": "g-1", "x-aimlapi-usd-spent": "0.28"})


def test_a_service_that_takes_bare_base64_gets_a_local_file_without_a_prefix() -> None:
    submission = replace(
        SUBMISSION, request='{"image": "cat.png"}', files={"/image": LocalFile("cat.png", "image/png", b"png")}
    )
    body = submission.body(lambda file: base64.b64encode(file.content).decode())
    assert json.loads(body) == {"image": "cG5n"}


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_an_answer_cut_at_any_byte_is_never_taken_for_not_sent(reset: bool) -> None:
    cuts = range(len(WHOLE))
    script = [Reset(WHOLE[:cut]) if reset else WHOLE[:cut] for cut in cuts]
    async with serving(*script) as wire, service(wire.base_url) as api:
        for cut in cuts:
            outcome = await api.submit(SUBMISSION)
            assert isinstance(outcome, Unknown), (cut, outcome)
            assert len(wire.requests) == cut + 1


async def test_an_answer_without_a_length_that_is_cut_is_unknown_or_whole() -> None:
    """The end of the connection is the end of such a body: what of it reads as JSON with an id is the answer."""
    whole = answer(201, CREATED, {"Content-Length": None})
    start = whole.index(b"\r\n\r\n") + 4
    async with serving(*(whole[:cut] for cut in range(start, len(whole) + 1))) as wire, service(wire.base_url) as api:
        for cut in range(start, len(whole) + 1):
            outcome = await api.submit(SUBMISSION)
            assert isinstance(outcome, Accepted if cut == len(whole) else Unknown), (cut, outcome)
    assert len(wire.requests) == len(whole) - start + 1


async def test_an_answer_that_comes_byte_by_byte_is_read() -> None:
    dripped = Drip([WHOLE[at : at + 1] for at in range(len(WHOLE))])
    async with serving(dripped) as wire, service(wire.base_url) as api:
        outcome = await api.submit(SUBMISSION)
    assert isinstance(outcome, Accepted)
    assert (outcome.generation_id, outcome.cost_usd, outcome.http_status) == ("g-1", Decimal("0.28"), 201)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"\x16\x03\x01", id="not HTTP"),
        pytest.param(b"HTTP/1.1 abc\r\n\r\n", id="no status"),
        pytest.param(answer(200, b"xx", {"Content-Encoding": "gzip"}), id="not the gzip that it claims"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="a malformed chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"a: " + b"x" * 200_000 + b"\r\n\r\n", id="a head without an end"),
    ],
)
async def test_an_answer_that_cannot_be_read_is_unknown(reply: bytes) -> None:
    async with serving(reply) as wire, service(wire.base_url) as api:
        assert isinstance(await api.submit(SUBMISSION), Unknown)
    assert len(wire.requests) == 1


async def test_no_answer_in_time_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SUBMIT_SECONDS", 0.2)
    async with serving(HANG) as wire, service(wire.base_url) as api:
        assert await api.submit(SUBMISSION) == Unknown("no answer in time")
    assert len(wire.requests) == 1


@pytest.mark.parametrize("address", ["http://[::1", "http://a:b", "http://x..y/", "http://127.0.0.1:99999"])
async def test_an_invalid_address_blocks_or_is_not_sent(address: str) -> None:
    async with service(address) as api:
        outcome = await api.submit(SUBMISSION)
    assert isinstance(outcome, Blocked | NotSent)


async def test_the_key_is_in_no_reason_even_if_the_service_repeats_it() -> None:
    statuses = (400, 401, 403, 404, 429, 500)
    replies = [error(status, f"Incorrect API key provided: {KEY}.") for status in statuses for _ in range(2)]
    async with serving(*replies) as wire, service(wire.base_url) as api:
        for status in statuses:
            outcome = await api.submit(SUBMISSION)
            fetched = await api.fetch(handle_of("g-1", SUBMISSION.endpoint))
            assert str(status) in repr(outcome)
            assert KEY not in repr(outcome), status
            assert KEY not in repr(fetched), status
            assert "Incorrect API key provided: " in repr(outcome), status
        assert KEY not in repr(api)


async def test_the_key_is_in_no_reason_where_a_long_page_is_cut_short() -> None:
    page = ("x" * 190 + KEY + "y" * 100).encode()
    async with serving(answer(200, page)) as wire, service(wire.base_url) as api:
        assert KEY[:8] not in repr(await api.submit(SUBMISSION))


LIMITS = {
    "Too many requests. Slow down and try again.": None,
    "Rate limit exceeded": None,
    "Rate or concurrency limit: 3 requests per second, 5 concurrent": None,
    "You may have 5 concurrent generations": Limit.IN_FLIGHT,
    "Too many tasks in progress": Limit.IN_FLIGHT,
    "Limit of 20 requests per minute reached": Limit.RATE,
    "Your daily limit is reached": Limit.QUOTA,
    "Quota exceeded": Limit.QUOTA,
}


async def test_the_limit_of_a_429_is_the_one_that_its_words_name() -> None:
    async with serving(*(error(429, message) for message in LIMITS)) as wire, service(wire.base_url) as api:
        for message, limit in LIMITS.items():
            outcome = await api.submit(SUBMISSION)
            assert isinstance(outcome, Throttled), message
            assert outcome.limit is limit, message


def test_the_label_of_an_account_follows_from_the_key_and_shows_nothing_of_it() -> None:
    key = "sk-1234567890"
    labels = [AimlApi("https://api.test", secret).account for secret in (key, key, key + "1")]
    assert labels[0] == labels[1] != labels[2]
    assert not any(part in labels[0] for part in (key[-4:], key[:4]))
