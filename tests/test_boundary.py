"""The boundary to a service: whatever a plug-in returns or raises becomes an outcome of bounded values."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import repeat
from types import MappingProxyType
from typing import Any

import pytest

from batchgen.jobs import ErrorClass
from batchgen.services import boundary
from batchgen.services.account import Variables
from batchgen.services.base import (
    Adoption,
    Features,
    History,
    Listing,
    PastGeneration,
    SentAttempt,
    Service,
    Submission,
    Transaction,
    TransactionKind,
    TransactionPage,
)
from batchgen.services.boundary import BoundedService
from batchgen.services.bounds import PRICING_DEPTH, OutOfBounds
from batchgen.services.outcomes import (
    Absent,
    Accepted,
    Adopted,
    Ambiguous,
    Blocked,
    Cancelled,
    Failed,
    Finished,
    NotSent,
    Rejected,
    Throttled,
    Trouble,
    Unavailable,
    Unknown,
    Working,
)
from batchgen.services.text import is_harmless, one_line, visible, visible_json
from tests.conftest import NOON

pytestmark = pytest.mark.hostile(
    "odd values in what a service answers",
    "an unknown create, a poll without an answer, or the value left out; no exception, no key",
)

KEY = "sk-0123456789abcdef"
SUBMISSION = Submission("m", "/create", "{}", "batchgen-1")
ATTEMPT = SentAttempt("batchgen-1", "m", "/create", "{}", (), NOON)
ESCAPES = "\x1b]52;c;cm0gLXJm\x07red\u202egpj.\n12:00:00  forged  done\x9b31m\ud800\0"


@dataclass
class Plugin(Service):
    """A plug-in that answers every call with `answer`, or raises it."""

    answer: Any
    name: str = "odd"
    base_url: str = "https://api.test"
    account: str = "0badcafe"
    features: Features = field(default_factory=lambda: Features(Adoption.EXACT_ID))
    variables: Variables = field(default_factory=Variables)

    async def reply(self, *_: Any) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        if isinstance(self.answer, asyncio.Event):
            await self.answer.wait()
        return self.answer

    prepare = submit = fetch = find = history = cancel = transactions = balance = catalogue = typical_seconds = reply  # type: ignore[assignment]

    async def close(self) -> None:
        pass


def behind(answer: Any) -> BoundedService:
    return BoundedService(Plugin(answer), KEY)


class SpeechlessError(Exception):
    def __init__(self, says: BaseException) -> None:
        self.says = says

    def __str__(self) -> str:
        raise self.says


CIRCLE: dict[str, Any] = {}
CIRCLE["x"] = CIRCLE
RAISED: list[BaseException] = [ValueError(f"Bearer {KEY}"), RecursionError(), OverflowError(), MemoryError()]
RAISED += [KeyError("\ud800"), asyncio.CancelledError(), SystemExit(0), BaseExceptionGroup("", [SystemExit(0)])]
RAISED += [SpeechlessError(ValueError()), SpeechlessError(SystemExit(0)), GeneratorExit(), StopIteration()]
NOTHING: Any = None
NONSENSE: list[Any] = [None, 0, "text", {"a": object()}, [], object, object(), Working, Finished(NOTHING)]
ODD_IDS: dict[str, Any] = {
    "an empty id": "",
    "a number": 7,
    "nothing": None,
    "a list": ["g-1"],
    "spaces around it": " g-1 ",
    "a line break": "g-1\nforged",
    "an escape": "g-1\x1b[2J",
    "a zero byte": "g-1\0",
    "half a surrogate pair": "g-\ud800",
    "a turn of direction": "g-\u202e1",
    "too long": "g" * 501,
    "the key": f"g-{KEY}",
    "where the key was": "g-…",
}


@pytest.mark.parametrize("answer", [*RAISED, *NONSENSE], ids=lambda answer: type(answer).__name__)
async def test_a_call_that_raises_or_returns_nonsense_has_the_outcome_that_is_safe(answer: Any) -> None:
    service = behind(answer)
    submitted, fetched = await service.submit(SUBMISSION), await service.fetch({})
    assert isinstance(submitted, Unknown), "it may be charged"
    assert isinstance(fetched, Unavailable), "it says nothing about the generation"
    assert isinstance(await service.cancel({}), Unavailable)
    assert isinstance(await service.find([ATTEMPT]), Unavailable | dict)
    assert isinstance(await service.transactions(NOON, NOON), Unavailable | None)
    assert await service.balance() is None
    assert await service.typical_seconds(["m"]) == {}
    assert await service.catalogue() is None
    assert KEY not in submitted.reason + fetched.reason


async def test_a_call_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CALL_SECONDS", 0.01), ("LONGER", {"submit": 0.02})):
        monkeypatch.setattr(boundary, name, value)
    service = behind(asyncio.Event())
    assert await service.submit(SUBMISSION) == Unknown("no answer within 0.02 seconds")
    assert await service.fetch({}) == Unavailable("no answer within 0.01 seconds")
    assert await service.catalogue() is None


async def test_a_call_that_the_run_stops_is_stopped() -> None:
    task = asyncio.create_task(behind(asyncio.Event()).submit(SUBMISSION))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def cancel_and_wait(*_: Any) -> Any:
    cancel_and_answer()
    await asyncio.sleep(0)


def cancel_and_answer(*_: Any) -> Any:
    task = asyncio.current_task()
    assert task
    task.cancel()


async def refuse_to_end(*_: Any) -> Any:
    while not ENOUGH.is_set():
        with suppress(asyncio.CancelledError):
            await ENOUGH.wait()


ENOUGH = asyncio.Event()


@pytest.mark.parametrize("call", [cancel_and_wait, cancel_and_answer, refuse_to_end])
async def test_a_plug_in_that_cancels_its_task_or_will_not_be_cancelled_gives_no_answer(
    call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has not stopped it: a create may be accepted, and nothing is known of a generation."""
    monkeypatch.setattr(boundary, "LONGER", {})
    monkeypatch.setattr(boundary, "CALL_SECONDS", 0.01)
    ENOUGH.clear()
    plugin = Plugin(None)
    vars(plugin).update(submit=call, fetch=call)
    service = BoundedService(plugin, KEY)
    submitted = await service.submit(SUBMISSION)
    assert isinstance(submitted, Unknown), "it may be charged"
    assert isinstance(await service.fetch({}), Unavailable)
    await asyncio.sleep(0)
    ENOUGH.set()


async def test_a_plug_in_may_answer_without_waiting() -> None:
    plugin, accepted = Plugin(None), Accepted("g-1")
    vars(plugin).update(submit=lambda _submission: accepted, fetch=lambda _handle: Plugin(Working("queued")).reply())
    service = BoundedService(plugin, KEY)
    assert (await service.submit(SUBMISSION), await service.fetch({})) == (accepted, Working("queued"))


@pytest.mark.parametrize("generation_id", ODD_IDS.values(), ids=ODD_IDS)
async def test_an_id_that_cannot_be_kept_as_it_is_is_no_acceptance(generation_id: Any) -> None:
    assert isinstance(await behind(Accepted(generation_id)).submit(SUBMISSION), Unknown)
    adopted = Adopted(generation_id, NOON)
    findings = await behind({"batchgen-1": adopted, "somebody else's": adopted}).find([ATTEMPT])
    assert isinstance(findings, dict)
    assert [type(finding) for finding in findings.values()] == [Ambiguous], "it is neither lost nor sent again"


@pytest.mark.parametrize(
    "generation_id", ["b906d239:kling-video/v2.1/master/image-to-video", "7" * 18, "é-日本", "g" * 500]
)
async def test_an_id_of_any_documented_shape_is_taken_as_it_is(generation_id: str) -> None:
    accepted = Accepted(generation_id, Decimal("0.2941"), 201, {"url": "https://a.test/x?y=z"})
    assert await behind(accepted).submit(SUBMISSION) == accepted


HANDLES: dict[str, Any] = {
    "a line break": {"url": "https://a.test/\u2028"},
    "the key": {"url": f"https://a.test/?key={KEY}"},
    "too long": {"url": "u" * 20_000},
    "no JSON": {"url": object()},
    "not a number": {"x": math.nan},
    "a circle": CIRCLE,
    "nothing": None,
}


@pytest.mark.parametrize("handle", HANDLES.values(), ids=HANDLES)
async def test_a_handle_that_cannot_be_kept_is_no_acceptance(handle: Any) -> None:
    submitted = await behind(Accepted("g-1", handle=handle)).submit(SUBMISSION)
    assert isinstance(submitted, Unknown)
    assert "what finds g-1 again" in submitted.reason, "a person can name it to `resolve`"
    assert isinstance(await behind(handle).prepare(SUBMISSION), NotSent)


@pytest.mark.parametrize("handle", [MappingProxyType({"url": "x", 1: ("y",)}), [("url", "x"), (1, ["y"])]], ids=str)
async def test_a_handle_is_what_is_stored_of_it(handle: Any) -> None:
    stored = {"url": "x", "1": ["y"]}
    assert await behind(Accepted("g-1", handle=handle)).submit(SUBMISSION) == Accepted("g-1", handle=stored)
    if not isinstance(handle, list):
        assert await behind(handle).prepare(SUBMISSION) == stored


@pytest.mark.parametrize(
    "cost",
    [Decimal("1e30"), Decimal(10**9), Decimal(-1), Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity"), 0.1, "1"],
)
async def test_an_odd_price_loses_no_generation(cost: Any) -> None:
    assert await behind(Accepted("g-1", cost)).submit(SUBMISSION) == Accepted("g-1", None)
    assert await behind(Finished(("https://a.test/v.mp4",), cost_usd=cost)).fetch({}) == Finished(
        ("https://a.test/v.mp4",)
    )
    charges = [Transaction(TransactionKind.CHARGE, NOON, usd, id_) for id_, usd in (("g-1", cost), ("g-2", Decimal(1)))]
    page = await behind(TransactionPage(charges, "next")).transactions(NOON, NOON)
    assert page == TransactionPage(charges[1:], "next", unreadable=1), "the others are judged, and this one is told"
    assert await behind(cost).balance() is None


TEXTS = [
    (Rejected(ESCAPES, input=ESCAPES), "submit"),
    (NotSent(f"{ESCAPES} {KEY}"), "submit"),
    (Unknown(KEY * 1000), "submit"),
    (Throttled(ESCAPES * 1000), "submit"),
    (Blocked(Trouble.AUTH, f"wrong key {KEY}"), "submit"),
    (Working(ESCAPES * 100), "fetch"),
    (Failed(ESCAPES, KEY, input=KEY), "fetch"),
    (Unavailable(f"{KEY}{ESCAPES}"), "fetch"),
    (Unavailable(ESCAPES), "cancel"),
]


@pytest.mark.parametrize(("outcome", "call"), TEXTS, ids=lambda value: type(value).__name__)
async def test_every_text_is_one_printable_line_of_bounded_length_without_the_key(outcome: Any, call: str) -> None:
    argument: Any = SUBMISSION if call == "submit" else {}
    bounded = await getattr(behind(outcome), call)(argument)
    assert type(bounded) is type(outcome)
    texts = [value for value in vars_of(bounded) if type(value) is str]
    assert texts
    assert all(text.isprintable() and len(text) <= 2_000 and KEY not in text for text in texts)


def vars_of(outcome: Any) -> list[Any]:
    return [getattr(outcome, name) for name in outcome.__slots__]


@pytest.mark.parametrize(
    "address", ["", None, 7, "https://a.test/\n", f"https://a.test/{KEY}", "https://a.test/\x1b", "h" * 8_001]
)
async def test_an_address_that_cannot_be_kept_is_no_end(address: Any) -> None:
    assert isinstance(await behind(Finished((address,))).fetch({}), Unavailable)


async def test_one_address_is_one_file() -> None:
    address = "https://a.test/v.mp4"
    assert await behind(Finished(address)).fetch({}) == Finished((address,))  # type: ignore[arg-type]


async def test_a_generation_has_at_most_a_hundred_files() -> None:
    for files in (("https://a.test/v.mp4",) * 101, repeat("https://a.test/v.mp4")):
        answer = await behind(Finished(files)).fetch({})  # type: ignore[arg-type]
        assert answer == Unavailable("the answer cannot be used: it names more than 100 files")


@pytest.mark.parametrize(
    ("pause", "bounded"),
    [
        (timedelta(minutes=5), timedelta(minutes=5)),
        (timedelta(-1), timedelta(0)),
        (timedelta(seconds=7), timedelta(seconds=7)),
        (None, None),
        (7, None),
        ("soon", None),
    ],
)
async def test_a_pause_is_not_negative(pause: Any, bounded: timedelta | None) -> None:
    assert await behind(Throttled("429", pause)).submit(SUBMISSION) == Throttled("429", bounded)


@pytest.mark.parametrize("status", [0, 99, 1000, 10**30, "200", None])
async def test_a_status_that_is_none_is_left_out(status: Any) -> None:
    assert await behind(Unknown("?", status)).submit(SUBMISSION) == Unknown("?", None)


@pytest.mark.parametrize("kind", ["moderation", ErrorClass.MODERATION])
async def test_a_kind_of_failure_is_one_that_is_declared(kind: Any) -> None:
    assert await behind(Failed("no", kind=kind)).fetch({}) == Failed("no", kind=ErrorClass.MODERATION)
    assert await behind(Failed("no", kind="bad luck")).fetch({}) == Failed("no")  # type: ignore[arg-type]
    rejected = await behind(Rejected("no", kind=[], input=NOTHING)).submit(SUBMISSION)  # type: ignore[arg-type]
    assert rejected == Rejected("no", kind=ErrorClass.UNKNOWN)
    assert await behind(Throttled("429", limit="speed")).submit(SUBMISSION) == Throttled("429")  # type: ignore[arg-type]
    assert isinstance(await behind(Blocked("tired", "no")).submit(SUBMISSION), Unknown)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "accepted_at",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        NOON.replace(tzinfo=None),
        NOON + timedelta(days=2),
        NOON - timedelta(days=2),
        None,
    ],
)
async def test_an_impossible_time_of_acceptance_is_that_of_sending(accepted_at: Any) -> None:
    findings = await behind({"batchgen-1": Adopted("g-1", accepted_at)}).find([ATTEMPT])
    assert findings == {"batchgen-1": Adopted("g-1", NOON)}
    assert await behind({"batchgen-1": Absent(NOON)}).find([ATTEMPT]) == {"batchgen-1": Absent(NOON)}


async def test_a_time_that_proves_absence_has_to_be_one() -> None:
    findings = await behind({"batchgen-1": Absent(NOON.replace(tzinfo=None))}).find([ATTEMPT])
    assert isinstance(findings, dict)
    assert isinstance(findings["batchgen-1"], Ambiguous)


@pytest.mark.parametrize("seconds", [0, -1, 1e300, math.inf, math.nan, None, "210"])
async def test_a_median_that_no_generation_takes_is_left_out(seconds: Any) -> None:
    times = await behind({"m": seconds, "other": 210.0}).typical_seconds(["m", "other"])
    assert times in ({"other": 210.0}, {})


def nested(depth: int) -> str:
    return '{"kind": ' + "[" * depth + "]" * depth + "}"


@pytest.mark.parametrize(
    ("entry", "is_kept"),
    [
        ('{"kind": "variable"}', True),
        (nested(PRICING_DEPTH - 2), True),
        (nested(PRICING_DEPTH + 1), False),
        ("[]", False),
        (f'{{"kind": "{KEY}"}}', False),
        ('{"kind": "' + "x" * 200_000 + '"}', False),
    ],
)
async def test_prices_have_a_sensible_size_and_depth(entry: str, is_kept: bool) -> None:
    listing = await behind(Listing("etag", {"m": entry, "x\n": "{}"})).catalogue()
    assert listing == Listing("etag", {"m": entry} if is_kept else {})


@pytest.mark.parametrize("entry", [nested(50_000), "{", ""])
async def test_prices_that_are_no_json_are_no_list(entry: str) -> None:
    assert await behind(Listing("etag", {"m": entry})).catalogue() is None


@pytest.mark.parametrize("accepted_at", [NOTHING, "2026-03-01", datetime(2026, 3, 1), datetime.max])  # noqa: DTZ001, DTZ901
async def test_what_was_bought_does_not_seem_absent_for_an_odd_time(accepted_at: Any) -> None:
    """A job that its table has lost would be paid for again."""
    answer = await behind(History([PastGeneration("batchgen-1", "g-1", accepted_at)], NOON)).history(NOON)
    assert answer == History([PastGeneration("batchgen-1", "g-1", NOON)], NOON)


@pytest.mark.parametrize("answer", ["", [], {}, 0, History([], NOTHING), History([], datetime(2026, 3, 1))])  # noqa: DTZ001
async def test_a_memory_that_is_none_was_not_read(answer: Any) -> None:
    assert isinstance(await behind(answer).history(NOON), Unavailable)
    assert await behind(None).history(NOON) is None, "the service has none"


@pytest.mark.parametrize("kept", [timedelta.max, timedelta(0), timedelta(days=-1), "a day", 3])
def test_an_impossible_time_for_which_results_are_kept_is_none(kept: Any) -> None:
    plugin = Plugin(None, features=Features(Adoption.EXACT_ID, keeps_results_for=kept))
    assert BoundedService(plugin).features == Features(Adoption.EXACT_ID)


@pytest.mark.parametrize("speed", [0, -1.0, float("nan"), float("inf"), None, "fast"])
def test_an_impossible_speed_is_the_real_one(speed: Any) -> None:
    assert BoundedService(Plugin(None, features=Features(Adoption.EXACT_ID, speed=speed))).features.speed == 1.0


@pytest.mark.parametrize("offset", [None, "soon", 3, timedelta.max, timedelta.min])
def test_an_impossible_difference_of_clocks_is_none(offset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plugin, "clock_offset", offset, raising=False)
    assert behind(None).clock_offset == timedelta(0)


def test_the_words_of_features_are_their_members() -> None:
    plain: Any = Features("exact_body", "accepts", "free", charges="poll")  # type: ignore[arg-type]
    features = BoundedService(Plugin(None, features=plain)).features
    assert features.adopt is Adoption.EXACT_BODY, "code compares with `is`"
    with pytest.raises(ValueError, match="'by luck' is not a valid Adoption"):
        BoundedService(Plugin(None, features=Features("by luck")))  # type: ignore[arg-type]


@pytest.mark.parametrize("account", [None, 7, "a\nb", "x" * 501, f"of {KEY}"])
def test_a_label_of_the_account_that_cannot_be_kept_is_refused(account: Any) -> None:
    with pytest.raises(OutOfBounds, match="no short text without the key"):
        BoundedService(Plugin(None, account=account), KEY)


def test_an_address_without_an_origin_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid IPv6 URL"):
        BoundedService(Plugin(None, base_url="https://[bad"), KEY)


async def test_a_cancellation_is_no_answer() -> None:
    assert await behind(Cancelled(Decimal("1e30"))).cancel({}) == Cancelled(None)


def test_what_is_shown_cannot_control_a_terminal() -> None:
    assert one_line("a\tb\r\n\x1b[2Jc", 100) == "a b   [2Jc"
    assert visible("a\tb\x1b[2J\u202e\n") == "a\\tb\\x1b[2J\\u202e\\n"
    harmless = "Grüße, 日本, 👩\u200d🎨, \xa0\u2009\u202f\u3000, می\u200cخواهم, \U0001faea"
    assert visible(harmless) == harmless
    harmful = "\0\x85\xad\u200b\u200e\u2028\u2029\u2060\u2066\ufeff\ud800\U000e0041"
    assert not any(map(is_harmless, harmful))
    assert visible_json('{"a": "\x9b\u202e\U000e0001"}') == '{"a": "\\u009b\\u202e\\udb40\\udc01"}'
