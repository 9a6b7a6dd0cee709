"""Fetching, the log, the metrics: what each answer says, and what goes over the wire to get it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from batchgen.jobs import ErrorClass
from batchgen.services import http
from batchgen.services.aimlapi import AFTER, BEFORE, answers, handle_of
from batchgen.services.aimlapi.service import CLOCK_OFFSET
from batchgen.services.base import AT_ONCE, History, SentAttempt, TransactionPage
from batchgen.services.http import Answer
from batchgen.services.outcomes import (
    Absent,
    Adopted,
    Failed,
    FetchOutcome,
    Finished,
    Throttled,
    Trouble,
    Unavailable,
    Working,
)
from batchgen.services.statement import TRIES
from tests.conftest import NOON
from tests.table import HOUR, MINUTE, SECOND
from tests.test_aimlapi_create import KEY, SUBMISSION, error, service
from tests.wire import HANG, Request, Reset, answer, closed_port, serving

ENDPOINT = "/v2/video/generations"
URL = "https://cdn.aimlapi.com/v.mp4?sig=a%2Fb"
BASE_URL = "https://api.test"


def no_status(body: str) -> Unavailable:
    return Unavailable(f"200 without a status: {body}", http_status=200)


def status(word: str, **more: Any) -> bytes:
    return answer(200, {"id": "g-1", "status": word, **more})


ANSWERS: list[tuple[str, bytes, FetchOutcome]] = [
    *((word, status(word), Working(word)) for word in ("waiting", "active", "queued", "generating")),
    ("an unknown word", status("marinating"), Working("marinating", is_known=False)),
    ("an unknown word with a url", status("done?", video={"url": URL}), Working("done?", is_known=False)),
    *(
        (word, status(word, video={"url": URL}), Finished((URL,), word))
        for word in ("completed", "complete", "COMPLETED", "succeeded")
    ),
    (
        "with its cost",
        status("completed", video={"url": URL, "file_size": 9}, meta={"usage": {"credits_used": 560001}}),
        Finished((URL,), "completed", Decimal("0.2800005")),
    ),
    ("a list of one video", status("completed", video=[{"url": URL}]), Finished((URL,))),
    ("a list of videos", status("completed", video=[{"url": URL}, {"url": f"{URL}2"}]), Finished((URL, f"{URL}2"))),
    ("a list of links", status("succeeded", video=[URL, f"{URL}2"]), Finished((URL, f"{URL}2"), "succeeded")),
    ("a list with the same link twice", status("completed", video=[URL, {"url": URL}]), Finished((URL,))),
    ("a list with something else in it", status("completed", video=[None, 3, {}, URL]), Finished((URL,))),
    (
        "with its cost in USD",
        status("completed", video=URL, meta={"usage": {"usd_spent": 0.28}}),
        Finished((URL,), "completed", Decimal("0.28")),
    ),
    (
        "with a cost of zero, which is none yet",
        status("completed", video=URL, meta={"usage": {"credits_used": 0}}),
        Finished((URL,), "completed"),
    ),
    (
        "an error that is charged all the same",
        status("error", error="faces", meta={"usage": {"usd_spent": 0.28}}),
        Failed("faces", cost_usd=Decimal("0.28")),
    ),
    (
        "an error that names a charge of zero",
        status("error", error="faces", meta={"usage": {"usd_spent": 0}}),
        Failed("faces", cost_usd=Decimal(0)),
    ),
    (
        "error with details",
        status("error", error={"detail": [{"loc": ["body", "image_url"], "msg": "Failed to download the image"}]}),
        Failed("error: body.image_url: Failed to download the image", kind=ErrorClass.INPUT_FILE),
    ),
    ("error with a list", status("error", error=[{"msg": "a"}, "b"]), Failed("a; b")),
    ("a bare url", status("completed", video=URL), Finished((URL,))),
    ("no video", status("completed"), Finished(())),
    ("a null video", status("completed", video=None, meta=None), Finished(())),
    ("a video without url", status("completed", video={"url": None}, meta={"usage": 3}), Finished(())),
    ("an empty list", status("completed", video=[]), Finished(())),
    (
        "error",
        status("error", error={"name": "Moderation", "message": "faces"}),
        Failed("Moderation: faces", kind=ErrorClass.MODERATION),
    ),
    ("error with a text", status("error", error="faces"), Failed("faces")),
    ("error without a word", status("error"), Failed("error: the service gives no reason")),
    ("error with nulls", status("error", error={"name": None, "message": None}), Failed("error")),
    ("failed", status("failed", error={"message": "x"}), Failed("error: x", "failed")),
    *(
        (message, status("error", error={"message": message}), Failed(f"error: {message}", kind=kind))
        for message, kind in {
            "Your prompt was flagged by our content policy": ErrorClass.MODERATION,
            "The result has expired": ErrorClass.EXPIRED,
            "No workers available, try again later": ErrorClass.CAPACITY,
            "The image could not be downloaded": ErrorClass.INPUT_FILE,
            "Failed to download the image": ErrorClass.INPUT_FILE,
            "Could not decode the audio file": ErrorClass.INPUT_FILE,
            "Failed to generate the video. Please try again.": ErrorClass.UNKNOWN,
            "Internal server error": ErrorClass.INTERNAL,
            "Something happened": ErrorClass.UNKNOWN,
        }.items()
    ),
    ("no status", answer(200, {"id": "g"}), no_status('{"id": "g"}')),
    ("a status that is a number", answer(200, {"status": 3}), no_status('{"status": 3}')),
    ("a page", answer(200, b"<html>"), no_status("<html>")),
    ("nothing", answer(200), no_status("empty")),
    ("nested too deeply to parse", answer(200, b"[" * 200_000), no_status("[" * 200)),
    ("401", error(401), Unavailable("401: sorry", Trouble.AUTH, 401)),
    ("403", error(403), Unavailable("403: sorry", Trouble.CREDITS, 403)),
    ("404", error(404), Unavailable("404: sorry", http_status=404)),
    ("429", error(429, retry_after="3"), Throttled("429: sorry", timedelta(seconds=3))),
    ("503", error(503, retry_after="3"), Unavailable("503: sorry", None, 503, timedelta(seconds=3))),
    *((str(code), error(code), Unavailable(f"{code}: sorry", http_status=code)) for code in (400, 500, 502, 504)),
]


async def test_an_answer_to_a_fetch_has_one_meaning() -> None:
    async with serving(*(reply for _, reply, _ in ANSWERS)) as wire, service(wire.base_url) as api:
        for name, _, outcome in ANSWERS:
            assert await api.fetch(handle_of("g-1", ENDPOINT)) == outcome, name
    assert len(wire.requests) == len(ANSWERS)


IDS = [
    "b906d239-77b0:kling-video/v2.1/master/image-to-video",
    "789339022468063304",
    "V1StGXR8_Z5jdHi6B-myT",
    "a&b=c #?%é+",
]


async def test_any_id_arrives_as_it_is() -> None:
    async with serving(status("queued")) as wire, service(wire.base_url) as api:
        for name in IDS:
            await api.fetch(handle_of(name, ENDPOINT))
    for name, request in zip(IDS, wire.requests, strict=True):
        assert (request.method, request.path, request.query) == ("GET", ENDPOINT, {"generation_id": [name]})
        assert ":" not in request.target
        assert request.target.count("/") == ENDPOINT.count("/")
        assert request.headers["authorization"] == f"Bearer {KEY}"


ELSEWHERE = [
    "{0}",
    "//{1}/x",
    "@{1}/x",
    "\\\\{1}/x",
    ":x@{1}/",
    ".{1}/",
    "http://{1}/x",
    "HTTP://{1}/x",
    "{2}@{1}/x",
    "http:{1}/x",
]
"""Endpoints of a hostile row: each is tried with the address of another server."""


async def test_the_key_goes_to_no_address_that_a_row_names() -> None:
    async with serving(status("queued")) as other, serving(status("queued")) as own, service(own.base_url) as api:
        host = other.base_url.removeprefix("http://")
        for endpoint in ELSEWHERE:
            handle = handle_of("g-1", endpoint.format(other.base_url, host, own.base_url.removeprefix("http:")))
            await api.fetch({**handle, "base_url": other.base_url})
            await api.submit(replace(SUBMISSION, endpoint=handle["endpoint"]))
            assert other.connections == 0, endpoint


@pytest.mark.parametrize("name", ["id", "generation_id"])
@pytest.mark.parametrize("word", ["completed", "error", "cancelled"])
async def test_an_end_tells_about_which_generation_it_is(name: str, word: str) -> None:
    async with serving(answer(200, {name: "g-1", "status": word})) as wire, service(wire.base_url) as api:
        outcome = await api.fetch(handle_of("g-2", ENDPOINT))
    assert isinstance(outcome, Finished | Failed)
    assert outcome.about == "g-1"


@pytest.mark.parametrize("reply", [b"", Reset(b"HTTP/1.1 200"), HANG, answer(302, headers={"Location": "/elsewhere"})])
async def test_a_fetch_that_fails_says_nothing_of_the_job(reply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "QUESTION_SECONDS", 0.2)
    async with serving(reply) as wire, service(wire.base_url) as api:
        outcome = await api.fetch(handle_of("g-1", ENDPOINT))
    assert isinstance(outcome, Unavailable)
    assert outcome.reason


async def test_a_service_that_is_down_says_nothing_of_the_job() -> None:
    async with service(f"http://127.0.0.1:{closed_port()}") as api:
        outcome = await api.fetch(handle_of("g-1", ENDPOINT))
        assert isinstance(outcome, Unavailable)
        assert outcome.http_status is None
        assert isinstance(await api.find(LOST), Unavailable)
        assert await api.typical_seconds(["m"]) == {}


# --- the request log -------------------------------------------------------------------------------------------------


def sent(number: int, at: datetime = NOON) -> SentAttempt:
    return SentAttempt(f"batchgen-{number}", "m", ENDPOINT, "{}", (), at)


LOST = [sent(0, NOON - timedelta(minutes=2)), sent(1)]
START, END = LOST[0].intent_at - BEFORE, NOON + AFTER


def row(number: int, **changes: Any) -> dict[str, Any]:
    usual = {
        "created": "2026-03-01T12:00:00.000Z",
        "status": "succeeded",
        "model": "m",
        "cost": {"usd": 0.28, "credits": 560000},
        "request_id": f"r-{number}",
        "inference_id": f"g-{number}",
        "client_request_id": f"batchgen-{number}",
    }
    return {**usual, **changes}


def adopted(number: int, generation_id: str = "", cost: str | None = "0.28") -> Adopted:
    generation_id = generation_id or f"g-{number}"
    return Adopted(generation_id, NOON, Decimal(cost) if cost else None, handle_of(generation_id, ENDPOINT))


def pages(total: int, name: str = "data") -> Any:
    """A log of `total` rows that pages by the `offset` and `limit` of the request."""

    def page(request: Request) -> bytes:
        offset, limit = int(request.query["offset"][0]), int(request.query["limit"][0])
        rows = [row(number) for number in range(offset, min(offset + limit, total))]
        more = {"limit": limit, "offset": offset, "total": total, "has_more": offset + limit < total}
        return answer(200, {name: rows, "pagination": more})

    return page


@pytest.mark.parametrize("total", [0, 1, 100, 101, 250])
async def test_the_log_is_read_to_its_end(clock: object, total: int) -> None:
    attempts = [sent(number) for number in range(260)]
    async with serving(pages(total)) as wire, service(wire.base_url) as api:
        findings = await api.find(attempts)
        assert findings == {
            attempt.client_request_id: adopted(number) if number < total else Absent(NOON)
            for number, attempt in enumerate(attempts)
        }
    assert len(wire.requests) == max(1, -(-total // 100))
    assert wire.requests[0].query == {
        "start": [(NOON - BEFORE).isoformat()],
        "end": [(NOON + AFTER).isoformat()],
        "limit": ["100"],
        "offset": ["0"],
    }
    assert wire.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 11:00:00 GMT", -3600),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 0),
        ("soon", 0),
    ],
)
async def test_the_log_is_asked_for_a_window_of_the_service_s_clock(clock: object, date: str, seconds: int) -> None:
    async with serving(answer(200, {"data": []}, {"Date": date})) as wire, service(wire.base_url) as api:
        await api.find(LOST)
        await api.find(LOST)
        kept = [replace(attempt, handle={CLOCK_OFFSET: 7_200}) for attempt in LOST]
        await api.find(kept)
    first, second, third = wire.requests
    assert [datetime.fromisoformat(first.query[name][0]) for name in ("start", "end")] == [START, END]
    moved = timedelta(seconds=seconds)
    window = [START + min(moved, timedelta(0)), END + max(moved, timedelta(0))]
    assert [datetime.fromisoformat(second.query[name][0]) for name in ("start", "end")] == window, "either clock"
    window = [datetime.fromisoformat(third.query[name][0]) for name in ("start", "end")]
    assert window == [START, END + 2 * HOUR], "by the clock that sent it, or by this one if a cache had told that"


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({"Date": "Sun, 01 Mar 2026 11:00:00 GMT"}, {CLOCK_OFFSET: -3600}),
        ({"Date": "Sun, 01 Mar 2026 11:00:00 GMT", "Age": "3600"}, {}),
        ({"Date": "soon"}, {}),
    ],
)
async def test_how_wrong_the_clock_is_that_sends_a_request_is_kept_with_it(
    clock: object, headers: dict[str, str], kept: dict[str, Any]
) -> None:
    async with serving(answer(200, {"data": []}, headers)) as wire, service(wire.base_url) as api:
        await api.find(LOST)
        assert await api.prepare(SUBMISSION) == kept


@pytest.mark.parametrize("has_more", [True, None])
async def test_a_log_is_read_to_its_end_whose_pages_are_shorter_or_do_not_say_that_more_follow(
    clock: object, has_more: bool | None
) -> None:
    def page(request: Request) -> bytes:
        offset = int(request.query["offset"][0])
        rows = [row(number) for number in range(offset, min(offset + (40 if has_more else 100), 130))]
        return answer(200, {"data": rows, "pagination": {"has_more": True} if has_more else {}})

    async with serving(page) as wire, service(wire.base_url) as api:
        findings = await api.find([sent(number) for number in range(130)])
    assert findings == {f"batchgen-{number}": adopted(number) for number in range(130)}


async def test_a_history_of_the_last_hours_is_read_whole_whatever_the_clocks_say(clock: object) -> None:
    early = answer(200, {"data": []}, {"Date": "Sun, 01 Mar 2026 02:00:00 GMT"})
    async with serving(early) as wire, service(wire.base_url) as api:
        for _ in range(2):
            await api.history(NOON - HOUR, NOON)
    assert [wire.requests[1].query[name][0] for name in ("start", "end")] == [
        (NOON - 11 * HOUR).isoformat(),
        NOON.isoformat(),
    ]


async def test_absence_from_a_log_too_long_to_be_read_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchgen.services.aimlapi.service.PAGES_MAX", 3)
    async with serving(pages(301)) as wire, service(wire.base_url) as api:
        findings = await api.find([sent(299), sent(300)])
    assert isinstance(findings, Mapping)
    assert list(findings) == ["batchgen-299"]


async def test_a_history_that_is_cut_says_how_far_it_reaches_by_this_machine_s_clock(
    clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.services.aimlapi.service.PAGES_MAX", 1)
    rows = [row(0, created="2026-03-01T12:59:00Z"), row(1, created="2026-03-01T12:30:00Z", client_request_id=None)]
    cut = answer(200, {"data": rows, "pagination": {"has_more": True}}, {"Date": "Sun, 01 Mar 2026 13:00:00 GMT"})
    async with serving(cut) as wire, service(wire.base_url) as api:
        history = await api.history(NOON - HOUR, NOON)
    assert isinstance(history, History)
    assert history.generations[0].accepted_at == NOON - MINUTE
    assert history.since == NOON - 30 * MINUTE, "its last row counts, although it is of another program"


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (error(401), Unavailable("401: sorry", Trouble.AUTH, 401)),
        (error(429), Throttled("429: sorry")),
        (error(500), Unavailable("500: sorry", http_status=500)),
        (answer(200, b"<html>"), Unavailable("200, but no JSON object: <html>", http_status=200)),
        (answer(200, b""), Unavailable("200, but no JSON object: empty", http_status=200)),
        (
            answer(302, b"<html>", {"Location": f"https://portal.test/?{KEY}"}),
            Unavailable("302: it leads to https://portal.test/?\u2026, and no key goes there", http_status=302),
        ),
        (answer(200, {"data": {}}), Unavailable("200, but no whole page: no rows", http_status=200)),
        (
            answer(200, {"data": []}, {"Age": "60"}),
            Unavailable("the answer comes from a cache, and may be out of date", http_status=200),
        ),
        *(
            (answer(200, {"data": []} | beside), Unavailable(f"200, but no whole page: {words}", http_status=200))
            for beside, words in (
                ({"error": {"message": "timed out"}}, "timed out"),
                ({"errors": [{"message": "shard 3"}]}, "shard 3"),
                ({"success": False, "message": "no store"}, "no store"),
            )
        ),
    ],
)
async def test_a_log_that_breaks_off_shows_nothing(reply: bytes, outcome: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchgen.services.aimlapi.service.LOG_WAIT_SECONDS", 0)
    async with serving(pages(250), reply) as wire, service(wire.base_url) as api:
        assert await api.find(LOST) == outcome
    tries = 1 if outcome.http_status == 401 or "no whole page" in outcome.reason else TRIES
    assert [request.query["offset"] for request in wire.requests] == [["0"], *[["100"]] * tries]


async def test_a_log_is_read_on_from_the_page_that_was_refused(clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchgen.services.aimlapi.service.LOG_WAIT_SECONDS", 0)
    replies = (pages(250), error(429), pages(250), error(500), error(429), pages(250))
    async with serving(*replies) as wire, service(wire.base_url) as api:
        findings = await api.find([sent(number) for number in range(250)])
    assert isinstance(findings, Mapping)
    assert findings == {f"batchgen-{number}": adopted(number) for number in range(250)}
    assert [request.query["offset"][0] for request in wire.requests] == ["0", "100", "100", "200", "200", "200"]


FAILED_THERE = Absent(NOON, "the service's log shows that it failed there")


MEANINGS: list[tuple[dict[str, Any], Adopted | Absent | None]] = [
    ({"client_request_id": None}, Absent(NOON)),
    ({"client_request_id": ""}, Absent(NOON)),
    ({"client_request_id": 7}, Absent(NOON)),
    # It was accepted, whenever that was: taken for absent, it could be bought again.
    ({"created": None}, replace(adopted(0), accepted_at=NOON - SECOND)),
    ({"created": "yesterday"}, replace(adopted(0), accepted_at=NOON - SECOND)),
    ({"created": None, "inference_id": None}, None),
    ({"created": "2026-03-01T12:00:00"}, adopted(0)),
    ({"created": "2026-03-01T13:00:00+01:00"}, adopted(0)),
    ({"inference_id": None, "status": "failed", "cost": None}, FAILED_THERE),
    ({"inference_id": None}, None),  # taken, but nobody knows as what
    ({"inference_id": 12}, adopted(0, "12")),
    ({"status": "pending"}, adopted(0)),
    ({"cost": {"usd": 0}}, adopted(0, cost=None)),  # charged when the generation completes
]


async def test_a_row_of_the_log_has_one_meaning(clock: object) -> None:
    logs = [answer(200, {"data": [None, "text", 3, [], row(0, **changes)]}) for changes, _ in MEANINGS]
    async with serving(*logs) as wire, service(wire.base_url) as api:
        for changes, finding in MEANINGS:
            findings = await api.find([sent(0, NOON - SECOND)])
            assert findings == ({"batchgen-0": finding} if finding else {}), changes
    assert len(wire.requests) == len(MEANINGS)


FAILED = [row(0, status="failed", cost={"usd": 0})]
NOT_FOUND = error(404, "Generation with id g-0 is not found")
ASKED: list[tuple[str, Any, Adopted | Absent | None]] = [
    ("is not found", NOT_FOUND, FAILED_THERE),
    ("is at work", status("generating"), adopted(0, cost=None)),
    ("has finished", status("completed", video=URL), adopted(0, cost=None)),
    ("has failed", status("error", error="x"), adopted(0, cost=None)),
    *((f"cannot be asked for now: {code}", error(code), None) for code in (401, 403, 429, 500, 503)),
    ("cannot be asked for now: no answer", Reset(), None),
    ("cannot be asked for now: a page", answer(200, b"<html>"), None),
]


async def test_the_id_of_a_failed_row_is_believed_only_as_far_as_it_leads(clock: object) -> None:
    log = answer(200, {"data": FAILED})
    script = [step for _, reply, _ in ASKED for step in (log, reply)]
    async with serving(*script) as wire, service(wire.base_url) as api:
        for number, (name, _, finding) in enumerate(ASKED, 1):
            assert await api.find([sent(0)]) == ({"batchgen-0": finding} if finding else {}), name
            assert [request.path for request in wire.requests] == ["/v2/logs", ENDPOINT] * number, name
            assert wire.requests[-1].query == {"generation_id": ["g-0"]}, name


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        ([row(0, inference_id="g-x", status="failed"), row(0)], adopted(0)),
        ([row(0), row(0, inference_id="g-x", status="failed")], adopted(0)),
        ([row(0, inference_id=None, status="failed"), row(0)], adopted(0)),
        ([row(0), row(0, inference_id=None, status="failed")], adopted(0)),
        ([row(0, inference_id=None), row(0, status="failed")], None),
        ([row(0, status="failed"), row(0, status="failed", inference_id="g-x")], FAILED_THERE),
        ([row(0, status="Failed")], FAILED_THERE),
    ],
)
async def test_several_rows_of_one_request_are_read_together(
    clock: object, rows: list[Any], finding: Adopted | Absent | None
) -> None:
    def reply_to(request: Request) -> Any:
        return answer(200, {"data": rows}) if request.path == "/v2/logs" else NOT_FOUND

    async with serving(reply_to) as wire, service(wire.base_url) as api:
        assert await api.find([sent(0)]) == ({"batchgen-0": finding} if finding else {})


TRANSACTIONS: list[tuple[Any, tuple[str, str, str | None]]] = [
    ({"reference_id": "g-0", "amount": {"credits": 560001, "usd": 0.28}}, ("charge", "0.2800005", "g-0")),
    ({"reference_id": "g-0", "amount": {"usd": 0.28}, "direction": "CHARGE"}, ("charge", "0.28", "g-0")),
    ({"reference_id": "g-0", "amount": {"usd": -0.28}, "type": "MODEL_USAGE"}, ("charge", "0.28", "g-0")),
    ({"reference_id": None, "amount": {"usd": 0.28}, "type": "MODEL_USAGE"}, ("charge", "0.28", None)),
    ({"amount": {"usd": 0.28}, "type": "a new word"}, ("charge", "0.28", None)),
    ({"reference_id": "g-0", "amount": {"usd": 5}, "direction": "TOPUP", "type": "REFUND"}, ("refund", "5", "g-0")),
    ({"reference_id": "g-0", "amount": {"usd": 5}, "direction": "TOPUP", "type": "ADJUSTMENT"}, ("refund", "5", "g-0")),
    ({"amount": {"usd": 5}, "direction": "TOPUP", "type": "ADJUSTMENT"}, ("other", "5", None)),
    ({"amount": {"usd": 5}, "direction": "CHARGE", "type": "ADJUSTMENT"}, ("other", "-5", None)),
    ({"reference_id": "pay-1", "amount": {"usd": 5}, "direction": "TOPUP", "type": "PAYMENT"}, ("other", "5", None)),
    ({"amount": {"usd": 1}, "direction": "CHARGE", "type": "CREDITS_EXPIRED"}, ("other", "-1", None)),
]


async def test_a_transaction_is_a_charge_a_refund_or_none_of_a_generation() -> None:
    pages = [
        answer(200, {"data": [{"created_at": "2026-03-01T12:00:00Z", **row}], "pagination": {}})
        for row, _ in TRANSACTIONS
    ]
    async with serving(*pages) as wire, service(wire.base_url) as api:
        for row, (kind, amount, generation_id) in TRANSACTIONS:
            page = await api.transactions(START, END)
            assert isinstance(page, TransactionPage), row
            (transaction,) = page.rows
            assert (transaction.kind, transaction.amount_usd) == (kind, Decimal(amount)), row
            assert (transaction.generation_id, transaction.at) == (generation_id, NOON), row


async def test_a_transaction_that_cannot_be_read_is_counted() -> None:
    rows = [None, {}, {"created_at": "noon", "amount": {"usd": 1}}, {"created_at": "2026-03-01"}]
    pages = (answer(200, {"data": [row], "pagination": {}}) for row in rows)
    async with serving(*pages) as wire, service(wire.base_url) as api:
        for row in rows:
            assert await api.transactions(START, END) == TransactionPage([], None, unreadable=1), row


async def test_a_cursor_is_used_with_the_window_that_it_was_made_for() -> None:
    pages = {"data": [{"created_at": "2026-03-01", "amount": {"usd": 1}}], "pagination": {"next_cursor": "c 2"}}
    async with serving(answer(200, pages)) as wire, service(wire.base_url) as api:
        first = await api.transactions(START, END)
        assert isinstance(first, TransactionPage)
        await api.transactions(START, END + SECOND, first.cursor)
    queries = [request.query for request in wire.requests]
    assert queries[1] == {**queries[0], "cursor": ["c 2"]}


# --- metrics ---------------------------------------------------------------------------------------------------------


async def test_medians_are_requested_without_the_key() -> None:
    models = [
        {"alias": "kling/a", "metrics": {"duration_ms": {"p50": 210_000}}},
        {"alias": "b", "metrics": {"duration_ms": {"p50": None}}},
        {"alias": "c", "metrics": None},
        {"alias": "d", "metrics": {"duration_ms": {"p50": -1}}},
        None,
    ]
    async with serving(answer(200, {"models": models, "window_seconds": 3600})) as wire, service(wire.base_url) as api:
        assert await api.typical_seconds(["kling/a", "b"]) == {"kling/a": 210.0}
    (request,) = wire.requests
    assert (request.path, request.query) == ("/models/metrics", {"aliases": ["kling/a", "b"]})
    assert "authorization" not in request.headers


async def test_medians_of_many_models_are_requested_a_hundred_at_a_time() -> None:
    models = [f"vendor/model-{number},a" for number in range(250)]
    rows = [{"alias": model, "metrics": {"duration_ms": {"p50": 1000}}} for model in models]

    def metrics(request: Request) -> bytes:
        return answer(200, {"models": [row for row in rows if row["alias"] in request.query["aliases"]]})

    async with serving(metrics) as wire, service(wire.base_url) as api:
        assert await api.typical_seconds(models) == dict.fromkeys(models, 1.0)
    assert [len(request.query["aliases"]) for request in wire.requests] == [100, 100, 50]


@pytest.mark.parametrize("reply", [error(500), answer(200, b"<"), answer(200, {"models": 3}), answer(200, [1])])
async def test_without_medians_the_documented_times_serve(reply: bytes) -> None:
    async with serving(reply) as wire, service(wire.base_url) as api:
        assert await api.typical_seconds(["m"]) == {}


async def test_no_more_than_sixteen_calls_are_on_the_wire_at_once() -> None:
    async with serving(HANG) as wire, service(wire.base_url) as api:
        tasks = [asyncio.create_task(api.fetch(handle_of(str(number), ENDPOINT))) for number in range(20)]
        await wire.came(AT_ONCE)
        assert (len(wire.requests), wire.connections) == (AT_ONCE, AT_ONCE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


WORDS = [
    *(
        (word, ErrorClass.EXPIRED)
        for word in ("expired", "Expired", " EXPIRED ", "deleted", "removed", "not_found", "not found")
    ),
    *((word, ErrorClass.INTERNAL) for word in ("timeout", "timed_out", "Timed Out", "timed-out", "timedOut")),
    *((word, ErrorClass.MODERATION) for word in ("nsfw", "NSFW", "blocked", "moderated", "Content Moderated")),
    *((word, ErrorClass.UNKNOWN) for word in ("cancelled", "canceled", "CANCELED", "rejected", "aborted", "killed")),
]


def test_a_word_of_an_end_is_one_in_any_case_and_with_blanks() -> None:
    for word, kind in WORDS:
        outcome = answers.read_fetch(Answer(200, "OK", {}, json.dumps({"status": word}).encode()), BASE_URL)
        assert isinstance(outcome, Failed), word
        assert (outcome.word, outcome.kind, outcome.cost_usd) == (word.strip(), kind, None), "it may be charged"
        assert repr(word.strip()) in outcome.message


def test_an_end_names_its_reason_and_its_charge_where_the_answer_does() -> None:
    document = {"status": "rejected", "error": {"message": "violates the content policy"}}
    body = json.dumps({**document, "meta": {"usage": {"usd_spent": 0}}}).encode()
    outcome = answers.read_fetch(Answer(200, "OK", {}, body), BASE_URL)
    message = "the service says 'rejected': violates the content policy"
    assert outcome == Failed(message, "rejected", ErrorClass.MODERATION, cost_usd=Decimal(0))


@pytest.mark.parametrize("word", ["Completed", "SUCCEEDED", " done "])
def test_a_word_of_success_is_one_in_any_case(word: str) -> None:
    body = json.dumps({"status": word, "video": {"url": "https://cdn.test/v.mp4"}}).encode()
    assert isinstance(answers.read_fetch(Answer(200, "OK", {}, body), BASE_URL), Finished)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        (f" {URL}\n", URL),
        ("//cdn.test/v.mp4", "https://cdn.test/v.mp4"),
        ("/file/v.mp4", f"{BASE_URL}/file/v.mp4"),
        ("v.mp4", "v.mp4"),
        ("//[", "//["),
    ],
)
def test_an_address_is_read_without_its_blanks_and_from_that_of_the_api(written: str, address: str) -> None:
    body = json.dumps({"status": "completed", "video": {"url": written}}).encode()
    assert answers.read_fetch(Answer(200, "OK", {}, body), BASE_URL) == Finished((address,))


@pytest.mark.parametrize("code", [201, 202, 203, 206])
def test_every_success_that_names_a_state_is_believed(code: int) -> None:
    body = json.dumps({"status": "completed", "video": {"url": URL}}).encode()
    assert answers.read_fetch(Answer(code, "OK", {}, body), BASE_URL) == Finished((URL,))
