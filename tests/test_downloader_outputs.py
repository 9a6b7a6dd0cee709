"""The files of a generation: several of them, those that the service deletes soon, and those that it has no more."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.jobs import ErrorClass, State
from batchgen.jobtable import delivery, polling
from batchgen.jobtable.delivery import PlacedFile
from batchgen.services.base import Adoption, Features
from batchgen.services.outcomes import Failed, FetchOutcome, Finished, Working
from tests.conftest import NOON
from tests.fileserver import CLIP, OTHER, PAGE, V2, downloading, finished_generation, full_answer
from tests.scripted import ScriptedService, context_of, turn, turn_when_due
from tests.table import HOUR, MINUTE, RUN, Table, spec
from tests.wire import Request, answer, serving

FILES = {"/1.mp4": full_answer(), "/2.mp4": full_answer(OTHER, V2)}


def by_path(request: Request) -> bytes:
    return FILES.get(request.path, answer(404))


def generation_of(table: Table, *urls: str, key: str = "mona") -> None:
    table.bring(State.GENERATING, key)
    (job,) = table.claim(State.GENERATING)
    table.change(polling.finished, job, RUN, Finished(urls), table.now)


def generation_of_two(table: Table, base_url: str) -> None:
    generation_of(table, f"{base_url}/1.mp4", f"{base_url}/2.mp4")


async def test_every_file_of_a_generation_is_delivered_and_the_job_is_done_with_the_last(
    table: Table, clock: Clock
) -> None:
    async with serving(by_path) as wire:
        generation_of_two(table, wire.base_url)
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert table.row().state == "done"
    assert table.row().output_path == "mona.mp4"
    assert [(file.number, file.path, file.bytes, file.sha256) for file in table.outputs()] == [
        (1, "mona.mp4", len(CLIP), hashlib.sha256(CLIP).hexdigest()),
        (2, "mona+2.mp4", len(OTHER), hashlib.sha256(OTHER).hexdigest()),
    ]
    assert (table.folder / "mona.mp4").read_bytes() == CLIP
    assert (table.folder / "mona+2.mp4").read_bytes() == OTHER
    assert table.story()[-2:] == ["downloading", "done"], "one event, with the last file"


async def test_the_second_file_of_a_job_and_its_second_take_have_different_names(table: Table, clock: Clock) -> None:
    async with serving(by_path) as wire:
        for key in ("mona", "mona-2"):
            generation_of(table, f"{wire.base_url}/1.mp4", f"{wire.base_url}/2.mp4", key=key)
            async with downloading(context_of(table, ScriptedService())) as stage:
                await turn(stage)
    paths = [file.path for file in table.outputs()]
    assert paths == ["mona.mp4", "mona+2.mp4", "mona-2.mp4", "mona-2+2.mp4"]


async def test_a_file_that_was_delivered_is_not_requested_again_for_the_sake_of_another(
    table: Table, clock: Clock
) -> None:
    failures = [answer(503)]

    def second_fails_once(request: Request) -> bytes:
        return failures.pop() if request.path == "/2.mp4" and failures else by_path(request)

    async with serving(second_fails_once) as wire:
        generation_of_two(table, wire.base_url)
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
            assert table.row().state == "downloading"
            assert [bool(file.delivered_at) for file in table.outputs()] == [True, False]
            await turn_when_due(stage, table, clock, 1)
    assert [request.path for request in wire.requests] == ["/1.mp4", "/2.mp4", "/2.mp4"]
    assert table.row().state == "done"
    assert not (table.folder / "mona~1.mp4").exists()


LATE, BUSY, HUGE = answer(404), answer(503), answer(200, b"", {"Content-Length": "99999999999999"})
EXPIRED = Failed("the result has expired", kind=ErrorClass.EXPIRED)


@pytest.mark.parametrize(
    ("files", "fetched", "states"),
    [
        ({"wide": CLIP, "bad": PAGE, "close": OTHER}, None, ["downloading", "downloading", "failed"]),
        ({"bad": PAGE, "wide": CLIP, "close": OTHER}, None, ["downloading", "downloading", "failed"]),
        ({"bad": LATE, "wide": CLIP}, Working("queued"), ["downloading"] * 4),
        ({"bad": LATE, "wide": CLIP}, EXPIRED, ["failed"]),
        ({"bad": LATE, "slow": BUSY, "wide": CLIP}, EXPIRED, ["downloading", "downloading", "failed"]),
        ({"bad": LATE, "huge": HUGE, "wide": CLIP}, EXPIRED, ["downloading"]),
        ({"huge": HUGE, "slow": BUSY, "wide": CLIP}, None, ["downloading"] * 3),
    ],
    ids=["a page", "a page first", "not there yet", "gone", "gone and busy", "gone and huge", "huge and busy"],
)
async def test_a_bad_file_keeps_no_other_one_of_its_generation_away(
    table: Table, clock: Clock, files: dict[str, bytes], fetched: FetchOutcome | None, states: list[str]
) -> None:
    """The job fails only once no file of it may still come."""

    def by_name(request: Request) -> bytes:
        content = files[request.path[1:]]
        return content if content.startswith(b"HTTP/") else full_answer(content, None)

    async with serving(by_name) as wire:
        urls = [f"{wire.base_url}/{name}" for name in files]
        generation_of(table, *urls)
        context = context_of(table, ScriptedService(fetches=[fetched or Finished(tuple(urls))]))
        async with downloading(context) as stage:
            for state in states:
                await turn_when_due(stage, table, clock, 1)
                assert table.row().state == state
                delivered = [name for name, row in zip(files, table.outputs(), strict=True) if row.delivered_at]
                assert delivered == [name for name, content in files.items() if content in (CLIP, OTHER)]
    if states[-1] == "failed":
        bad = 1 + [content in (CLIP, OTHER) for content in files.values()].index(False)
        assert (table.row().error or "").startswith(f"file {bad} of {len(files)}: ") is (fetched is not EXPIRED)
    paths = [request.path[1:] for request in wire.requests]
    assert [paths.count(name) for name in delivered] == [1] * len(delivered), "what is here is not fetched again"
    # A busy file may come within this run; an obstacle is left to the next one.
    assert bool(context.obstacles) == ("huge" in files and "slow" not in files)


async def test_each_file_gets_the_new_address_of_its_own_number(table: Table, clock: Clock) -> None:
    async with serving(by_path) as wire:
        generation_of_two(table, wire.base_url + "/expired")
        service = ScriptedService(fetches=[Finished((f"{wire.base_url}/1.mp4", f"{wire.base_url}/2.mp4"))])
        async with downloading(context_of(table, service)) as stage:
            await turn(stage)
    assert (table.folder / "mona.mp4").read_bytes() == CLIP
    assert (table.folder / "mona+2.mp4").read_bytes() == OTHER


@pytest.mark.parametrize(
    ("keeps", "first"), [(HOUR, "soon"), (None, "long due")], ids=["files expire", "files are kept"]
)
async def test_a_file_that_the_service_deletes_soon_is_downloaded_first(
    table: Table, clock: Clock, keeps: timedelta | None, first: str
) -> None:
    def finish(key: str, due: datetime, collect_by: datetime) -> None:
        table.bring(State.GENERATING, key)
        (job,) = table.claim(State.GENERATING)
        table.change(polling.finished, job, RUN, Finished(("http://127.0.0.1:9/v.mp4",)), due, collect_by)

    finish("long due", NOON - HOUR, NOON + HOUR)
    finish("soon", NOON, NOON + MINUTE)
    service = ScriptedService(features=Features(Adoption.EXACT_ID, keeps_results_for=keeps))
    async with downloading(context_of(table, service)) as stage:
        jobs, _ = table.change(stage.claim, NOON, 1)
    assert [job.key for job in jobs] == [first]


async def test_a_file_that_the_service_has_no_more_fails_its_job_and_its_charge_stays(
    table: Table, clock: Clock
) -> None:
    table.sync(spec())
    (job,) = table.intend()
    table.accept(job, "g-mona", "0.28")
    async with serving(answer(404)) as wire:
        (job,) = table.claim(State.GENERATING)
        table.change(polling.finished, job, RUN, Finished((f"{wire.base_url}/v.mp4",)), table.now)
        service = ScriptedService(fetches=[Failed("the result has expired", kind=ErrorClass.EXPIRED)])
        async with downloading(context_of(table, service)) as stage:
            await turn(stage)
    row = table.row()
    assert (row.state, row.error_class, row.error) == ("failed", ErrorClass.EXPIRED, "the result has expired")
    assert table.attempt().cost_usd == Decimal("0.28"), "it was made, and paid for"
    assert service.submitted == []


async def test_a_generation_that_fails_in_another_way_is_asked_for_again(table: Table, clock: Clock) -> None:
    """It was finished: only "expired" says that its file is gone."""
    async with serving(answer(404)) as wire:
        finished_generation(table, f"{wire.base_url}/v.mp4")
        service = ScriptedService(fetches=[Failed("oops", kind=ErrorClass.INTERNAL)])
        async with downloading(context_of(table, service)) as stage:
            await turn(stage)
    assert (table.row().state, table.row().failures) == ("downloading", 1)


async def test_after_a_crash_between_two_files_the_first_is_not_requested_again(table: Table, clock: Clock) -> None:
    async with serving(by_path) as wire:
        generation_of_two(table, wire.base_url)
        (job,) = table.claim(State.DOWNLOADING)
        digest = hashlib.sha256(CLIP).hexdigest()
        (table.folder / "mona.mp4").write_bytes(CLIP)
        table.change(delivery.placed, job, RUN, job.outputs[0], PlacedFile(len(CLIP), digest, "mona.mp4"), table.now)
        assert table.row().state == "downloading"
        table.bury()
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert [request.path for request in wire.requests] == ["/2.mp4"]
    assert table.row().state == "done"
