"""Runs with a cap, a time limit and a selection: what the service's own ledger says was spent."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batchgen import clock
from batchgen.cli.options import moment
from batchgen.runs import upkeep
from batchgen.simulator.service import AccountLimits, Simulation
from tests.batches import Bill, check_delivered, write_manifest
from tests.conftest import Command, Launch, Simulate
from tests.events import check_events
from tests.serving import served
from tests.waiting import rows, states, until

pytestmark = pytest.mark.slow

PRICE = Decimal("1.47")  # of a clip of 5 s of the text model, at the simulator
UNLISTED = "alibaba/wan2.1-t2v-plus"  # its price is "variable"
FAST: dict[str, Any] = {"submits_per_minute": 60_000, "in_flight": 100}


def spent(database: Path) -> tuple[Decimal, Decimal]:
    """The batch's running total, and the ledger added up: USD."""
    (row,) = rows(database, "SELECT spent_nanousd, reserved_nanousd, unpriced FROM batches")
    assert (row["reserved_nanousd"], row["unpriced"]) == (0, 0)
    costs = [Decimal(row["cost_usd"]) for row in rows(database, "SELECT cost_usd FROM attempts WHERE cost_usd > 0")]
    return Decimal(row["spent_nanousd"]) / 10**9, sum(costs, Decimal(0))


def charged(ledger: Path) -> Decimal:
    return sum((Decimal(row["micro_usd"]) / 1_000_000 for row in Bill(ledger).accepted), Decimal(0))


def test_status_says_why_a_run_at_work_submits_nothing(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate(speed=1)
    write_manifest(tmp_path / "m.yaml", 3, limits=FAST)
    launch("run", "m.yaml", "--max-cost", "2", **simulator.environment)
    line = "1 run at work; no more submits for now: what is left of the budget is reserved"
    until(lambda: line in (shown := batchgen("status", "m.yaml").stdout) and "free place" not in shown)
    waits = json.loads(batchgen("status", "m.yaml", "--json").stdout)["waits"]
    (cause,) = [wait["cause"] for wait in waits if wait["jobs"] == 2]
    assert cause.startswith("what is left of the budget is reserved")
    assert batchgen("set", "m.yaml", "max_cost=9").returncode == 0
    until(lambda: states(tmp_path / "batchgen.db").get("generating") == 3)
    until(lambda: batchgen("status", "m.yaml").stdout.endswith("1 run at work\n"))


def test_status_names_no_reason_of_a_killed_run_nor_while_another_may_submit(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate(speed=1)
    write_manifest(tmp_path / "m.yaml", 3, limits=FAST)
    launch("run", "m.yaml", "--only", "clip-0", **simulator.environment)
    until(lambda: states(tmp_path / "batchgen.db").get("generating") == 1)
    newest = launch("run", "m.yaml", "--max-cost", "2", **simulator.environment)
    held = "SELECT message FROM runs WHERE message IS NOT NULL"
    until(lambda: rows(tmp_path / "batchgen.db", held))
    assert batchgen("status", "m.yaml").stdout.endswith("2 runs at work\n")
    newest.signal(signal.SIGKILL)
    until(lambda: batchgen("status", "m.yaml").stdout.endswith("1 run at work\n"))


def test_what_was_charged_beyond_the_named_price_is_expected_from_then_on(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate("--lag", "0", faults={"billing": {"wrong_amount": 1.0}}, speed=2_000)
    write_manifest(tmp_path / "m.yaml", 6, limits=FAST)
    first = batchgen("run", "m.yaml", "--max-cost", "3", **simulator.environment)
    assert (first.returncode, spent(tmp_path / "batchgen.db")[0]) == (5, 4 * PRICE), "each was charged twice its price"
    assert "$5.88; the budget of 3 USD does not pay the next job" in first.stdout
    second = batchgen("run", "m.yaml", "--max-cost", "8", **simulator.environment)
    assert "the budget of 8 USD does not pay the next job, which costs 2.94" in second.stdout
    assert spent(tmp_path / "batchgen.db")[0] == 4 * PRICE


def test_two_runs_share_one_cap_to_the_cent_and_a_higher_cap_goes_on(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate(speed=2_000)
    database = tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", 20, limits={**FAST, "max_cost": 10.30})
    first = launch("run", "m.yaml", **simulator.environment)
    until(lambda: states(database))
    ends = [launch("run", "m.yaml", **simulator.environment).end(), first.end()]
    assert [end.returncode for end in ends] == [5, 5], ends
    assert "$10.29; the budget of 10.3 USD does not pay the next job, which costs 1.47" in ends[0].stdout
    assert spent(database) == (7 * PRICE, 7 * PRICE)
    assert charged(simulator.ledger) == 7 * PRICE
    assert states(database) == {"done": 7, "pending": 13}

    higher = batchgen("run", "m.yaml", "--max-cost", "14.70", **simulator.environment)
    assert higher.returncode == 5
    assert charged(simulator.ledger) == 10 * PRICE
    rest = batchgen("run", "m.yaml", "--max-cost", "100", **simulator.environment)
    assert rest.returncode == 0, rest.stderr
    assert spent(database) == (20 * PRICE, 20 * PRICE)
    assert Bill(simulator.ledger).duplicates == 0
    check_delivered(tmp_path, database)


def test_a_killed_run_leaves_the_cap_as_it_was(tmp_path: Path, simulate: Simulate, launch: Launch) -> None:
    simulator = simulate("--lag", "0", speed=200)
    database = tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", 12, limits={"submits_per_minute": 60_000, "in_flight": 3, "max_cost": 9})
    killed = launch("run", "m.yaml", **simulator.environment)
    until(lambda: states(database).get("generating") == 3, "all places are taken, and nothing is on the wire")
    killed.signal(signal.SIGKILL)
    killed.end()
    ended = launch("run", "m.yaml", **simulator.environment).end()
    assert ended.returncode == 5, ended.stderr
    assert charged(simulator.ledger) == 6 * PRICE
    assert spent(database) == (6 * PRICE, 6 * PRICE)


def test_a_failed_generation_leaves_budget_for_another(tmp_path: Path, simulate: Simulate, batchgen: Command) -> None:
    simulator = simulate(faults={"fetch": {"generation_error": {"count": 1}}})
    write_manifest(tmp_path / "m.yaml", 4, limits={**FAST, "max_cost": 2.94})
    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 5
    assert states(tmp_path / "batchgen.db") == {"done": 2, "failed": 1, "pending": 1}
    assert spent(tmp_path / "batchgen.db") == (2 * PRICE, 2 * PRICE)


def test_a_model_without_a_price_is_tried_once_and_then_estimated_by_its_charge(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    jobs = [{"id": f"j{number}", "prompt": f"{number}"} for number in range(6)]
    write_manifest(tmp_path / "m.yaml", jobs, defaults={"model": UNLISTED}, limits={**FAST, "max_cost": 1.60})
    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 5, ended.stderr
    assert charged(simulator.ledger) == 3 * Decimal("0.525")
    estimates = [row["estimated_usd"] for row in rows(tmp_path / "batchgen.db", "SELECT * FROM attempts ORDER BY id")]
    assert estimates == [None, "0.525", "0.525"]


def test_missing_charges_are_taken_from_the_service_s_transactions(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    database = tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", 3)
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    with closing(sqlite3.connect(database)) as connection, connection:
        # As answers without a charge would have left it.
        connection.execute("UPDATE attempts SET cost_usd = NULL, charge_source = NULL, estimated_usd = '1.47'")
        connection.execute("UPDATE batches SET spent_nanousd = 0, reserved_nanousd = 4410000000")
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    assert spent(database) == (3 * PRICE, 3 * PRICE)
    charges = rows(database, "SELECT DISTINCT cost_usd, charge_source FROM attempts")
    assert charges == [{"cost_usd": "1.47", "charge_source": "ledger"}]


def test_a_charge_that_nobody_knows_is_no_zero_and_no_higher_cap_is_advised_for_it(
    tmp_path: Path, simulate: Simulate, batchgen: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "CHARGE_REQUESTS", 1)
    simulator = simulate(faults={"billing": {"missing": 1.0}})
    unlisted = {"defaults": {"model": UNLISTED}, "limits": FAST}
    write_manifest(tmp_path / "m.yaml", 2, **unlisted)
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    with closing(sqlite3.connect(tmp_path / "batchgen.db")) as connection, connection:
        # As unreadable answers would have left it.
        connection.execute("UPDATE attempts SET cost_usd = NULL, charge_source = NULL, estimated_usd = NULL")
        connection.execute("UPDATE batches SET spent_nanousd = 0, unpriced = 2")
    write_manifest(tmp_path / "m.yaml", 3, **unlisted)
    capped = batchgen("run", "m.yaml", "--max-cost", "9", **simulator.environment)
    status = batchgen("status", "m.yaml")
    assert (capped.returncode, len(Bill(simulator.ledger).accepted)) == (5, 2)
    for shown in (capped.stdout, status.stdout, batchgen("plan", "m.yaml", **simulator.environment).stdout):
        assert "2 charges not known yet" in shown
    assert "Next: a run without max_cost goes on at once" in capped.stderr + capped.stdout
    assert (
        "; a run without max_cost goes on at once; with it, once the service shows what it charged: `" in status.stdout
    )
    told = json.loads(batchgen("status", "m.yaml", "--json").stdout)
    assert (told["unpriced"], told["hint"].partition(" goes")[0]) == (2, "a run without max_cost")


def test_a_low_balance_warns_and_stops_nothing(tmp_path: Path, batchgen: Command) -> None:
    limits = AccountLimits(balance_usd=Decimal(2))
    write_manifest(tmp_path / "m.yaml", 2)
    with served(Simulation(speed=300, instant=True, limits=limits)) as environment:
        ended = batchgen("run", "m.yaml", **environment)
    assert ended.returncode == 4
    assert "the account has 2 USD left; the pending jobs are expected to cost" in ended.stderr


def test_a_selection_limits_what_is_sent_and_the_same_one_means_the_same_jobs(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    database = tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", 12)

    def run(*options: str) -> tuple[int, set[str]]:
        ended = batchgen("run", "m.yaml", *options, **simulator.environment)
        assert ended.returncode == 0, ended.stderr
        done = rows(database, "SELECT key FROM jobs WHERE state = 'done'")
        return len(Bill(simulator.ledger).accepted), {row["key"] for row in done}

    assert run("--limit", "2") == (2, {"clip-0", "clip-1"})
    assert run("--limit", "2") == (2, {"clip-0", "clip-1"})
    assert run("--only", "clip-1?", "--only", "clip-5") == (5, {"clip-0", "clip-1", "clip-5", "clip-10", "clip-11"})
    number, sampled = run("--sample", "3")
    assert run("--sample", "3") == (number, sampled)
    assert "clip-7" in run("--where", "json_extract(request, '$.prompt') = 'Number 7.' AND attempt_id IS NULL")[1]
    assert states(database)["pending"]
    assert run()[0] == 12
    check_delivered(tmp_path, database)


def test_two_runs_with_different_selections_do_not_rob_each_other(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    """A selection belongs to its run: the second one must not take the first one's jobs out of it."""
    simulator = simulate()
    database = tmp_path / "batchgen.db"
    write_manifest(tmp_path / "m.yaml", 8)
    assert batchgen("run", "m.yaml", "--enroll").returncode == 0
    assert batchgen("pause", "m.yaml").returncode == 0
    options = {"first": ("--only", "clip-[0-3]"), "second": ("--limit", "6"), "third": ("--only", "clip-7")}
    runs = {}
    for name, selection in options.items():
        runs[name] = launch("run", "m.yaml", *selection, **simulator.environment)
        until(lambda: len(rows(database, "SELECT * FROM runs")) == len(runs))
    assert batchgen("resume", "m.yaml").returncode == 0
    ends = {name: run.end() for name, run in runs.items()}
    assert {name: end.returncode for name, end in ends.items()} == dict.fromkeys(options, 0), ends
    done = {row["key"] for row in rows(database, "SELECT key FROM jobs WHERE state = 'done'")}
    assert done == {*(f"clip-{number}" for number in range(6)), "clip-7"}
    assert states(database) == {"done": 7, "pending": 1}
    selections = [json.loads(row["selection"]) for row in rows(database, "SELECT * FROM runs ORDER BY started_at")]
    assert selections == [{"only": ["clip-[0-3]"]}, {"limit": 6}, {"only": ["clip-7"]}]
    assert Bill(simulator.ledger).duplicates == 0
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    check_delivered(tmp_path, database)


def test_a_pattern_that_fits_no_job_is_refused_with_the_nearest_ids(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", [{"id": "harbour-1", "prompt": "x"}, {"id": "sunset", "prompt": "y"}])
    for command in ("run", "plan"):
        ended = batchgen(command, "m.yaml", "--only", "sunset", "--only", "harbor-1", **simulator.environment)
        assert ended.returncode == 2, ended.stderr
        assert "--only harbor-1: no job of this batch has such an id; did you mean harbour-1?" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert Bill(simulator.ledger).accepted == []


def test_an_invalid_condition_is_refused_before_anything_is_sent(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 2)
    for wrong in ("colour = 'red'", "1) OR (1", "1; DROP TABLE jobs", "1 -- x", "'", "", "state = "):
        ended = batchgen("run", "m.yaml", "--where", wrong, **simulator.environment)
        assert (ended.returncode, ended.stdout) == (2, ""), wrong
        assert "--where" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert Bill(simulator.ledger).accepted == []


def test_nothing_is_sent_that_would_not_be_done_in_time(tmp_path: Path, simulate: Simulate, batchgen: Command) -> None:
    simulator = simulate(speed=1)
    write_manifest(tmp_path / "m.yaml", 2)
    ended = batchgen("run", "m.yaml", "--until", "2020-01-01T08:00", **simulator.environment)
    assert ended.returncode == 5
    assert "would not be done by 2020-01-01 08:00" in ended.stdout
    assert Bill(simulator.ledger).accepted == []
    assert batchgen("run", "m.yaml", "--until", "soon", **simulator.environment).returncode == 2


def test_a_plan_says_what_a_run_would_do_and_leaves_nothing_behind(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate(speed=1)
    public = {"AIMLAPI_BASE_URL": simulator.base_url}  # no key
    manifest = write_manifest(tmp_path / "m.yaml", 9, limits={"in_flight": 3, "submits_per_minute": 60})
    shown = batchgen("plan", "m.yaml", "--max-cost", "6", **public)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "m: 9 jobs: 9 to send, 9 of them new" in shown.stdout
    assert "$1.47 each, $13.23" in shown.stdout
    assert "prices as the service lists them now" in shown.stdout
    assert "within $6.00: 4 of 9 jobs, for $5.88" in shown.stdout
    assert [path for path in tmp_path.iterdir() if not path.name.startswith("simulator.ledger")] == [manifest]
    assert Bill(simulator.ledger).requests("create") == []
    plan = json.loads(batchgen("run", "-n", "m.yaml", "--json", "--only", "clip-[0-3]", **public).stdout)
    assert (plan["to_send"], plan["not_selected"], plan["cost_usd"]) == (4, 5, "5.88")
    assert plan["finish"]["p50"] < plan["finish"]["p90"]


@pytest.mark.parametrize(
    ("minutes", "in_time", "shown"),
    [(0, 0, "none of 2 would be sent and done\n"), (60, 2, "2 of 2 would be sent and done, for $2.94\n")],
)
def test_a_plan_until_a_time_says_what_would_be_done_by_then_and_what_that_costs(
    minutes: int, in_time: int, shown: str, tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    public = {"AIMLAPI_BASE_URL": simulate(speed=1).base_url}
    write_manifest(tmp_path / "m.yaml", 2)
    by = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
    plan = batchgen("plan", "m.yaml", "--until", by, **public).stdout
    assert (shown in plan, "done in about" in plan) == (True, bool(in_time)), plan
    (event,) = check_events(batchgen("plan", "m.yaml", "--json", "--until", by, **public).stdout)
    assert (event["until"]["jobs"], event["until"]["cost_usd"], event["finish"] is None) == (
        in_time,
        "2.94" if in_time else "0",
        not in_time,
    )


def test_a_plan_after_a_run_counts_what_is_done_and_edited_and_knows_the_last_prices(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 4)
    assert batchgen("run", "m.yaml", "--limit", "1", **simulator.environment).returncode == 0
    before = rows(tmp_path / "batchgen.db", "SELECT * FROM jobs")
    jobs = [{"id": f"clip-{n}", "prompt": f"Other {n}."} for n in range(5)]
    write_manifest(tmp_path / "m.yaml", jobs)
    unreachable = {"AIMLAPI_BASE_URL": "http://127.0.0.1:9"}
    shown = batchgen("plan", "m.yaml", **unreachable).stdout
    assert "m: 5 jobs: 4 to send, 1 of them new, 3 edited, 1 changed after being sent" in shown
    assert "$1.47 spent already; prices as listed 20" in shown
    assert "the service could not be asked for newer ones" in shown
    assert rows(tmp_path / "batchgen.db", "SELECT * FROM jobs") == before
    (tmp_path / "batchgen.db").unlink()
    shown = batchgen("plan", "m.yaml", **unreachable).stdout
    assert "price unknown" in shown
    assert "no price list is known" in shown
    capped = batchgen("plan", "m.yaml", "--max-cost", "3", **unreachable).stdout
    assert (
        "within $3.00: one job of a model without a price is sent first, and its charge is then taken as the price"
        in capped
    )
    assert json.loads(batchgen("plan", "m.yaml", "--json", **unreachable).stdout)["cost_usd"] is None


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("now", "text", "meant"),
    [
        ("2026-10-24T21:00Z", "08:00", "2026-10-25T07:00Z"),  # winter time by then
        ("2026-10-25T00:40Z", "02:30", "2026-10-25T01:30Z"),  # which comes twice that night
        ("2026-10-25T01:40Z", "02:30", "2026-10-26T01:30Z"),
        ("2026-03-28T22:00Z", "08:00", "2026-03-29T06:00Z"),  # summer time by then
        ("2026-12-31T22:59Z", "00:00", "2026-12-31T23:00Z"),
        ("2026-12-31T22:59Z", "23:58", "2027-01-01T22:58Z"),
    ],
)
def test_a_time_of_day_is_what_the_clock_on_the_wall_shows_then(
    now: str, text: str, meant: str, berlin: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "utcnow", lambda: datetime.fromisoformat(now))
    assert moment(text) == datetime.fromisoformat(meant)
