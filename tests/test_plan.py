"""A plan is made beside a run: it keeps nothing and holds nothing up."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from batchgen.dry_run import PlanRequest, assumed_limits, make_plan
from batchgen.files.local_files import FileDigests
from batchgen.jobs import State
from batchgen.jobtable import reconciliation, timings
from batchgen.jobtable.kinds import LimitKind
from batchgen.jobtable.schema import jobs
from batchgen.jobtable.selection import Selection
from batchgen.jobtable.timings import Timing
from batchgen.limits import rate
from batchgen.limits.adaptive import LearnedLimit, LearnedLimits
from batchgen.limits.admission import MOST_PER_MINUTE
from batchgen.limits.rate import LimitKey
from batchgen.manifest.limits import AUTO, Limits
from batchgen.report.plan import job_counts, plan_lines
from batchgen.services.base import Adoption, Features
from tests.table import ACCOUNT, MODEL, Table, spec


class MeasuredWhileOthersWrite(Mapping[str, float]):
    """Median generation times; whenever the forecast reads one, another connection writes to the job table."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writes = 0

    def __getitem__(self, model: str) -> float:
        with closing(sqlite3.connect(self.path, timeout=0)) as other:
            other.execute("INSERT INTO prices (service, model) VALUES ('s', ?)", (f"other {self.writes}",))
            other.commit()
        self.writes += 1
        return {MODEL: 200.0}[model]

    def __iter__(self) -> Iterator[str]:
        return iter([MODEL])

    def __len__(self) -> int:
        return 1


def request_for(table: Table, medians: Mapping[str, float]) -> PlanRequest:
    specs, digests = [spec("mona"), spec("lisa")], FileDigests(table.folder)
    features = Features(Adoption.NONE)
    return PlanRequest(
        table.batch, specs, digests, Limits(), Selection(), None, medians, features, has_live_prices=False
    )


async def test_another_connection_can_write_while_the_forecast_is_simulated(table: Table) -> None:
    assert table.database.path
    measured = MeasuredWhileOthersWrite(table.database.path)
    plan = await make_plan(table.database, request_for(table, measured), table.now)
    assert plan.to_send == plan.affordable == 2
    assert plan.p50_at > table.now
    assert measured.writes


async def test_a_plan_counts_what_a_run_would_send_without_a_question(table: Table) -> None:
    """An order to pay again that is not carried out yet, and an edited job that failed for nothing."""
    table.bring(State.FAILED, "lisa")
    table.sync("lisa", "mona")
    table.change(lambda connection: connection.execute(update(jobs).values(repeat_ordered=jobs.c.fingerprint)) and None)
    before = table.rows()
    request = replace(request_for(table, {}), specs=[spec("mona"), spec("lisa", prompt="Another one.")])
    assert (await make_plan(table.database, request, table.now)).to_send == 2
    assert table.rows() == before


@pytest.mark.parametrize(
    ("learned", "assumed"),
    [
        (LearnedLimits(), (10, 30)),
        (LearnedLimits(LearnedLimit(400.0)), (400, MOST_PER_MINUTE)),
        (LearnedLimits(LearnedLimit(400.0), LearnedLimit(90.0, 90.0)), (400, 90)),
    ],
    ids=["a new account", "nothing was refused", "a rate was refused"],
)
def test_a_plan_with_auto_limits_assumes_what_a_run_would_send(
    learned: LearnedLimits, assumed: tuple[int, float]
) -> None:
    assert assumed_limits([learned], Limits(in_flight=AUTO, submits_per_minute=AUTO)) == assumed


async def test_a_plan_names_the_jobs_that_are_held_for_a_person(table: Table) -> None:
    table.bring(State.UNCONFIRMED, "lisa")
    (job,) = table.unconfirmed()
    table.change(reconciliation.hold, job)
    table.sync("mona", "lisa")
    counts = job_counts(await make_plan(table.database, request_for(table, {}), table.now))
    assert counts == "1 to send, 1 held for a person"


async def test_a_plan_counts_the_jobs_of_the_manifest_and_names_the_earlier_versions(table: Table) -> None:
    table.bring(State.DONE, "lisa")
    table.sync(spec("mona"), spec("lisa", prompt="Another one."), changed="redo")
    changed = replace(request_for(table, {}), specs=[spec("mona"), spec("lisa", prompt="Another one.")])
    line = next(plan_lines(await make_plan(table.database, changed, table.now), table.now))
    left = "1 done, 1 of them earlier versions, or no longer in the manifest"
    assert (line.startswith("spring: 2 jobs: 1 to send, "), line.endswith(left)) == (True, True)


@pytest.mark.parametrize("value", ["'nan'", "9e999", "1e308", "-800", "x'00'"])
@pytest.mark.parametrize("column", ["generations", "log_mean", "log_m2"])
async def test_generation_times_that_somebody_edited_into_nonsense_are_no_evidence(
    table: Table, column: str, value: str
) -> None:
    usual = await make_plan(table.database, request_for(table, {}), table.now)
    table.change(timings.learn, "aimlapi", (MODEL, 0.0), 1.0)
    table.change(lambda connection: connection.exec_driver_sql(f"UPDATE timings SET {column} = {value}") and None)
    assert (await make_plan(table.database, request_for(table, {}), table.now)).p90_at == usual.p90_at
    assert table.change(timings.learn, "aimlapi", (MODEL, 0.0), 1.0) == Timing().with_one(1.0)


@pytest.mark.parametrize("value", ["'nan'", "9e999", "1e308", "-5", "x'00'"])
async def test_limits_that_somebody_edited_into_nonsense_are_not_learned(table: Table, value: str) -> None:
    key = LimitKey("aimlapi", LimitKind.IN_FLIGHT, ACCOUNT, MODEL)
    table.change(rate.learned, key)
    table.change(rate.store, key, LearnedLimit(400.0, 400.0), table.now)
    auto = replace(request_for(table, {}), limits=Limits(in_flight=AUTO, submits_per_minute=AUTO))
    assert (await make_plan(table.database, auto, table.now)).in_flight == 400
    table.change(lambda connection: connection.exec_driver_sql(f"UPDATE limits SET window = {value}") and None)
    assert (await make_plan(table.database, auto, table.now)).in_flight == Limits().in_flight
    assert table.change(rate.learned, key) == LearnedLimit()


async def test_a_plan_at_a_rate_that_never_ends_has_a_date(table: Table) -> None:
    request = replace(request_for(table, {}), limits=Limits(submits_per_minute=1e-300))
    assert (await make_plan(table.database, request, table.now)).p50_at.year == table.now.year + 100


async def test_a_plan_leaves_the_table_as_it_was(table: Table) -> None:
    table.sync("mona", "gone")
    before = table.everything()
    plan = await make_plan(table.database, request_for(table, {}), table.now)
    assert (plan.table.synced.new, plan.table.synced.gone, plan.to_send) == (1, 1, 2)
    assert table.everything() == before
