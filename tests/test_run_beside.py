"""What a run asks for beside its work: prices, generation times, the balance. A slow answer holds up nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Literal

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen import runner
from batchgen.cli.notices import SOON, notice_of
from batchgen.context import RunSpec
from batchgen.errors import ExitCode, ManifestChanged
from batchgen.jobtable import pricelist
from batchgen.jobtable.fingerprint import new_request_id
from batchgen.jobtable.measuring import UnmeasuredClip
from batchgen.jobtable.sync import SyncResult
from batchgen.limits import accounting
from batchgen.manifest.limits import Limits
from batchgen.runner import Runner
from batchgen.services.base import History, Listing, PastGeneration, Submission
from batchgen.services.outcomes import Rejected, SubmitOutcome
from tests.conftest import NOON
from tests.scripted import ScriptedService
from tests.table import MODEL, Table

pytestmark = pytest.mark.hostile(
    "prices, medians and balances that never come",
    "the run goes on; only a cap on the cost waits for prices, in bounds",
)
FAST = Limits(submits_per_minute=60_000, in_flight=100)
PRICE = json.dumps({"kind": "fixed", "units": [{"name": "video", "price": "0.25", "per": 1}]})


@dataclass
class SlowService(ScriptedService):
    """Answers creates at once; every other answer waits for `released`."""

    submits: Sequence[SubmitOutcome] = (Rejected("no faces", 400),)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    submitted_before: int = -1
    """The creates that were sent before the price list came."""

    async def submit(self, submission: Submission) -> SubmitOutcome:
        outcome = await super().submit(submission)
        if len(self.submitted) == 2:
            self.released.set()
        return outcome

    async def catalogue(self, _etag: str | None = None) -> Listing | None:
        self.asked.set()
        await self.released.wait()
        self.submitted_before = len(self.submitted)
        return Listing(None, {MODEL: PRICE})

    async def typical_seconds(self, _models: Sequence[str]) -> Mapping[str, float]:
        await self.released.wait()
        return {}

    async def balance(self) -> Decimal | None:
        await self.released.wait()
        return Decimal(5)


def run_of(table: Table, service: ScriptedService, max_cost: Decimal | None = None) -> Runner:
    synced: SyncResult = table.sync("a", "b")
    spec = RunSpec(
        batch=table.batch,
        jobs=2,
        synced=synced,
        folder=table.folder,
        limits=replace(FAST, max_cost=max_cost),
        models=[MODEL],
    )
    return Runner(table.database, service, spec)


@pytest.fixture(autouse=True)
def _short_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_ANSWERS_SECONDS", 0.01)


async def test_a_run_does_not_wait_for_prices_and_takes_them_over_when_they_come(table: Table) -> None:
    service = SlowService()
    run = run_of(table, service)
    assert (await run.run()).exit_code is ExitCode.INCOMPLETE
    assert (len(service.submitted), service.submitted_before) == (2, 2)
    assert set(run.context.prices.listed) == {MODEL}


async def test_answers_that_never_come_do_not_keep_a_run_from_its_end(table: Table) -> None:
    service = SlowService()
    service.released.set = lambda: None  # type: ignore[method-assign]
    assert (await run_of(table, service).run()).exit_code is ExitCode.INCOMPLETE
    assert len(service.submitted) == 2


async def test_a_cap_on_the_cost_waits_for_the_prices(table: Table) -> None:
    service = SlowService()
    run = run_of(table, service, Decimal("0.30"))
    running = asyncio.create_task(run.run())
    await service.asked.wait()
    assert run.context.awaits_prices
    service.released.set()
    ending = await running
    # A refused job costs nothing, so that both fit under the cap, one after the other.
    assert (ending.exit_code, service.submitted_before) == (ExitCode.INCOMPLETE, 0)
    assert [attempt.estimated_usd for attempt in table.attempts()] == [Decimal("0.25")] * len(table.attempts())


async def test_a_person_is_asked_about_repeats_once_the_prices_are_there(table: Table) -> None:
    class Prices(asyncio.Event):
        """Come only when somebody waits for them: the log has answered before."""

        async def wait(self) -> Literal[True]:
            service.released.set()
            return await super().wait()

    service = SlowService()
    run = run_of(table, service)
    request_ids = [new_request_id(row.fingerprint) for row in table.rows()]
    service.histories = [
        History([PastGeneration(id_, f"g-{id_}", NOON - timedelta(days=3)) for id_ in request_ids], NOON)
    ]
    run.context.has_prices = Prices()
    with pytest.raises(ManifestChanged, match=r"pay for these once more: 2 clips for about 0\.5 USD"):
        await run.run()


async def test_without_an_answer_in_time_a_cap_goes_by_the_stored_prices(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "PRICES_SECONDS", 0.05)
    table.change(pricelist.store, "aimlapi", Listing(None, {MODEL: PRICE}), NOON)
    service = SlowService()
    service.released.set = lambda: None  # type: ignore[method-assign]
    assert (await run_of(table, service, Decimal("0.10")).run()).exit_code is ExitCode.LIMIT_REACHED
    assert service.submitted == []


async def test_a_run_that_only_waits_for_the_measures_of_its_last_clips_says_so(table: Table, clock: Clock) -> None:
    run, notices = run_of(table, ScriptedService()), list[str]()

    async def read_slowly() -> list[UnmeasuredClip]:
        notices.append(notice_of(run, with_lock=False)[0])
        clock.tick(SOON)
        notices.append(notice_of(run, with_lock=False)[0])
        return []

    run.measurer.unmeasured = read_slowly  # type: ignore[method-assign]
    await run.measurer.measure_remaining()
    notices.append(notice_of(run, with_lock=False)[0])
    assert notices == ["", "the last clips are measured, for at most 30 s", ""]
