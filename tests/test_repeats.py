"""What was paid for is known again under every name: by the table, by the service's log, by the file at its output."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

import batchgen
from batchgen import clock
from batchgen.errors import ExitCode, ManifestChanged, UsageError
from batchgen.jobs import State
from batchgen.jobtable import commands, copying
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import attempts
from batchgen.report.plan import plan_lines
from batchgen.simulator.service import Simulation
from tests.batches import MASTER, TEXT_MODEL, Bill, write_image, write_manifest
from tests.serving import served
from tests.waiting import rows, states

pytestmark = pytest.mark.slow

JOBS = [{"id": "one", "prompt": "A lighthouse."}, {"id": "two", "prompt": "A harbour."}]
PRICE = Decimal("1.47")


FAST = {"submits_per_minute": 60_000, "in_flight": 100, "unconfirmed_minutes": 0.001}
"""Nothing waits for a log that may be late, as test_repeat_check does: each run would begin a second later."""


def write(path: Path, jobs: list[dict[str, Any]], **header: Any) -> Path:
    return write_manifest(path, jobs, limits=FAST, **header)


@dataclass
class Shop:
    """A folder with a manifest, and the service that its jobs are bought from."""

    folder: Path
    bill: Bill
    manifest: Path

    def run(self, manifest: Path | None = None, **options: Any) -> batchgen.RunResult:
        return batchgen.run(manifest or self.manifest, **options)

    def bought(self) -> int:
        return len(self.bill.accepted)

    def forget(self) -> None:
        for path in self.folder.glob("batchgen.db*"):
            path.unlink()

    def videos(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*.mp4"))


@pytest.fixture
def shop(tmp_path: Path, empty_table: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    folder = tmp_path / "shop"
    folder.mkdir()
    shutil.copyfile(empty_table, folder / "batchgen.db")
    ledger = tmp_path / "simulator.ledger"
    with served(Simulation(speed=2000, instant=True, ledger=ledger)) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("BATCHGEN_DB", "")  # so that the value that a test gives it does not outlive the test
        monkeypatch.chdir(tmp_path)
        manifest = write(folder / "m.yaml", JOBS, output="out/{{ id }}.mp4")
        yield Shop(folder, Bill(ledger), manifest)


# --- how a table, a manifest or a name comes to forget what was paid for ---------------------------------------------


def lose_the_table(shop: Shop) -> Path:
    shop.run()
    shop.forget()
    return shop.manifest


def lose_the_table_and_the_videos(shop: Shop) -> Path:
    lose_the_table(shop)
    shutil.rmtree(shop.folder / "out")
    return shop.manifest


def put_an_older_copy_back(shop: Shop) -> Path:
    shop.run(limit=1)
    shutil.copy(shop.folder / "batchgen.db", shop.folder / "copy")
    shop.run()
    shop.forget()
    shutil.move(shop.folder / "copy", shop.folder / "batchgen.db")
    return shop.manifest


def run_from_another_folder(shop: Shop) -> Path:
    shop.run()
    elsewhere = shop.folder.parent / "elsewhere"
    elsewhere.mkdir()
    os.chdir(elsewhere)  # BATCHGEN_DB is relative to it; the fixture's monkeypatch goes back
    os.environ["BATCHGEN_DB"] = "jobs.db"
    return shop.manifest


def rename_the_manifest(shop: Shop) -> Path:
    shop.run()
    return shop.manifest.rename(shop.folder / "renamed.yaml")


def copy_the_manifest(shop: Shop) -> Path:
    shop.run()
    return Path(shutil.copy(shop.manifest, shop.folder / "copied.yaml"))


def name_the_batch(shop: Shop) -> Path:
    shop.run()
    return write(shop.manifest, JOBS, batch="summer", output="out/{{ id }}.mp4")


def rename_the_batch_whose_name_is_in_the_outputs(shop: Shop) -> Path:
    write(shop.manifest, JOBS, batch="spring")
    shop.run()
    return write(shop.manifest, JOBS, batch="summer")


def prefix_the_ids(shop: Shop) -> Path:
    shop.run()
    renamed = [{**job, "id": f"a-{job['id']}"} for job in JOBS]
    return write(shop.manifest, renamed, output="out/{{ id }}.mp4")


def move_the_folder_and_name_the_batch(shop: Shop) -> Path:
    shop.run()
    shop.folder = shop.folder.rename(shop.folder.with_name("moved"))
    return write(shop.folder / "m.yaml", JOBS, batch="summer", output="new/{{ id }}.mp4")


def write_it_again_in_another_folder(shop: Shop) -> Path:
    shop.run()
    os.environ["BATCHGEN_DB"] = str(shop.folder / "batchgen.db")  # the fixture's monkeypatch goes back
    shop.folder = shop.folder.with_name("elsewhere")
    return write(shop.folder / "m.yaml", JOBS, batch="summer", output="new/{{ id }}.mp4")


def cancel_what_was_sent_and_prefix_the_ids(shop: Shop) -> Path:
    shop.run()
    with Database(shop.folder / "batchgen.db") as database:
        lost = {job["id"]: [1] for job in JOBS}
        assert len(database.write_now(commands.fetch_again, 1, lost, clock.utcnow())) == 2
        assert len(database.write_now(commands.cancel, 1, list(lost), clock.utcnow())) == 2
    shutil.rmtree(shop.folder / "out")
    renamed = [{**job, "id": f"a-{job['id']}"} for job in JOBS]
    return write(shop.manifest, renamed, output="out/{{ id }}.mp4")


def sort_the_parameters(shop: Shop) -> Path:
    shop.run()
    shop.forget()
    sorted_jobs = [{"prompt": job["prompt"], "duration": 5, "id": job["id"], "model": TEXT_MODEL} for job in JOBS]
    return write(shop.manifest, sorted_jobs, defaults={"tags": ["x"]}, output="out/{{ id }}.mp4")


def rename_the_image_and_lose_the_table(shop: Shop) -> Path:
    write_image(shop.folder / "a.png", 400, 400)
    jobs = [{**job, "image_url": "a.png"} for job in JOBS]
    write(shop.manifest, jobs, defaults={"model": MASTER}, output="out/{{ id }}.mp4")
    shop.run()
    shop.forget()
    (shop.folder / "a.png").rename(shop.folder / "b.png")
    renamed = [{**job, "image_url": "b.png"} for job in JOBS]
    return write(shop.manifest, renamed, defaults={"model": MASTER}, output="out/{{ id }}.mp4")


def write_takes_and_lose_the_table(shop: Shop) -> Path:
    write(shop.manifest, [{"id": "a", "prompt": "A lighthouse.", "count": 2}], output="out/{{ id }}.mp4")
    return lose_the_table(shop)


FORGETTING: list[Callable[[Shop], Path]] = [
    lose_the_table,
    lose_the_table_and_the_videos,
    put_an_older_copy_back,
    run_from_another_folder,
    rename_the_manifest,
    copy_the_manifest,
    name_the_batch,
    rename_the_batch_whose_name_is_in_the_outputs,
    prefix_the_ids,
    move_the_folder_and_name_the_batch,
    write_it_again_in_another_folder,
    cancel_what_was_sent_and_prefix_the_ids,
    sort_the_parameters,
    rename_the_image_and_lose_the_table,
    write_takes_and_lose_the_table,
]


@pytest.mark.parametrize("forget", FORGETTING, ids=lambda forget: forget.__name__)
def test_a_request_that_was_paid_for_is_not_bought_again_without_a_word(
    forget: Callable[[Shop], Path], shop: Shop
) -> None:
    manifest = forget(shop)
    with pytest.raises(ManifestChanged, match="paid for before") as refused:
        shop.run(manifest)
    assert re.search("pay for these once more: . clips? for about .* USD", str(refused.value))
    assert refused.value.exit_code is ExitCode.USAGE
    assert shop.bought() == 2

    kept = shop.run(manifest, changed="keep")
    assert (kept.exit_code, shop.bought()) == (ExitCode.DELIVERED, 2), kept.message
    assert len(shop.videos()) == 2
    delivered = [job.path for job in kept.jobs if job.state is State.DONE]
    assert len(delivered) == 2
    assert all(path and path.exists() for path in delivered)

    again = shop.run(manifest)
    assert (again.exit_code, shop.bought()) == (ExitCode.DELIVERED, 2)


@pytest.mark.parametrize("forget", [lose_the_table, rename_the_manifest], ids=lambda forget: forget.__name__)
def test_with_redo_it_is_paid_for_once_more_and_only_once(forget: Callable[[Shop], Path], shop: Shop) -> None:
    manifest = forget(shop)
    assert shop.run(manifest, changed="redo", limit=1).exit_code is ExitCode.DELIVERED
    assert shop.bought() == 3
    with pytest.raises(ManifestChanged, match="two: "):  # it was said of the selected job
        shop.run(manifest)
    assert shop.run(manifest, changed="redo", max_cost=Decimal(1)).exit_code is ExitCode.LIMIT_REACHED
    assert shop.bought() == 3
    assert shop.run(manifest).exit_code is ExitCode.DELIVERED, "what was ordered once need not be ordered again"
    assert shop.bought() == 4
    assert len(shop.videos()) == 4
    assert shop.run(manifest).exit_code is ExitCode.DELIVERED
    assert shop.bought() == 4


def test_edited_jobs_are_made_again_a_few_at_a_time(shop: Shop) -> None:
    shop.run()
    write(shop.manifest, [{**job, "prompt": f"{job['prompt']} At night."} for job in JOBS], output="out/{{ id }}.mp4")
    for bought in (3, 4, 4):
        assert shop.run(changed="redo", limit=1).exit_code is ExitCode.DELIVERED
        assert shop.bought() == bought
    assert shop.run().exit_code is ExitCode.DELIVERED
    assert (shop.bought(), shop.videos()) == (4, ["one.mp4", "one~1.mp4", "two.mp4", "two~1.mp4"])


@pytest.mark.parametrize("forget", [lose_the_table, rename_the_manifest, prefix_the_ids], ids=lambda f: f.__name__)
def test_a_cap_follows_the_money(forget: Callable[[Shop], Path], shop: Shop) -> None:
    manifest = forget(shop)
    manifest.write_text(manifest.read_text() + "- {id: three, prompt: A pier.}\n")
    capped = shop.run(manifest, changed="keep", max_cost=2 * PRICE + PRICE / 2)
    assert (capped.exit_code, shop.bought()) == (ExitCode.LIMIT_REACHED, 2)
    assert capped.summary.cost_usd == 2 * PRICE


def test_takes_and_twins_of_one_manifest_are_meant(shop: Shop) -> None:
    twins = [{"id": f"t{n}", "prompt": "The same."} for n in range(3)]
    takes = {"id": "a", "prompt": "Again.", "count": 3, "model": MASTER, "image_url": "https://example.com/a.jpg"}
    write(shop.manifest, [*twins, takes])
    assert shop.run(limit=2).exit_code is ExitCode.DELIVERED
    assert shop.run().exit_code is ExitCode.DELIVERED
    takes["count"] = 5
    write(shop.manifest, [*twins, takes])
    assert shop.run().exit_code is ExitCode.DELIVERED
    assert shop.bought() == 8


def test_a_file_that_nobody_knows_at_an_output_is_asked_about(shop: Shop) -> None:
    (shop.folder / "out").mkdir()
    (shop.folder / "out/one.mp4").write_bytes(b"mine")
    with pytest.raises(ManifestChanged, match=r"one: out/one\.mp4 exists already"):
        shop.run()
    assert shop.bought() == 0
    assert shop.run(changed="keep").exit_code is ExitCode.DELIVERED
    assert (shop.bought(), states(shop.folder / "batchgen.db")) == (1, {"cancelled": 1, "done": 1})
    assert (shop.folder / "out/one.mp4").read_bytes() == b"mine"


def test_the_file_of_another_job_at_an_output_is_none_of_it(shop: Shop) -> None:
    shop.run()
    other = [{**job, "prompt": f"{job['prompt']} At night."} for job in JOBS]
    write(shop.folder / "night.yaml", other, output="out/{{ id }}.mp4")
    plan = batchgen.plan(shop.folder / "night.yaml")
    warning = "warning: 2 jobs will be delivered beside a clip that lies there, as NAME~1.mp4: one, two"
    assert next(iter(plan_lines(plan, clock.utcnow()))) == warning
    assert shop.run(shop.folder / "night.yaml").exit_code is ExitCode.DELIVERED
    assert shop.videos() == ["one.mp4", "one~1.mp4", "two.mp4", "two~1.mp4"]


def test_a_plan_shows_what_was_paid_for_and_does_not_count_its_cost(shop: Shop) -> None:
    manifest = rename_the_manifest(shop)
    plan = batchgen.plan(manifest)
    assert (plan.to_send, [repeat.job.key for repeat in plan.table.repeats]) == (0, ["one", "two"])


def test_a_job_that_is_taken_over_keeps_its_history(shop: Shop) -> None:
    manifest = prefix_the_ids(shop)
    shop.run(manifest, changed="keep")
    assert rows(shop.folder / "batchgen.db", "SELECT key, state FROM jobs ORDER BY id") == [
        {"key": "a-one", "state": "done"},
        {"key": "a-two", "state": "done"},
        {"key": "one", "state": "cancelled"},
        {"key": "two", "state": "cancelled"},
    ]
    assert shop.videos() == ["a-one.mp4", "a-two.mp4"]


# --- edits, beside what was paid for ----------------------------------------------------------------------------------


def test_a_redo_of_an_edited_job_buys_nothing_that_was_not_shown(shop: Shop) -> None:
    shop.run()
    edited, renamed = {**JOBS[0], "prompt": "A lighthouse at night."}, {**JOBS[1], "id": "second"}
    write_manifest(shop.manifest, [edited, renamed], output="out/{{ id }}.mp4")
    with pytest.raises(ManifestChanged, match=r"one \(done\)") as refused:
        shop.run()
    assert "second: paid for as job two of batch m (done)\nkeep takes these over as well" in str(refused.value)
    with pytest.raises(ManifestChanged, match=r"one \(done\)") as refused:
        shop.run(only=["one"])
    assert "second" not in str(refused.value), "it is not to be sent"
    with pytest.raises(ManifestChanged, match=r"redo is noted for 1 edited job.*\n  second: paid for as job two"):
        shop.run(changed="redo")
    assert shop.bought() == 2
    assert shop.run(changed="keep").exit_code is ExitCode.DELIVERED
    assert shop.bought() == 3
    assert shop.videos() == ["one.mp4", "one~1.mp4", "second.mp4"]


def shifted_by_one(shop: Shop) -> list[str]:
    """A row is put on top of a list whose ids are its numbers. Returns the prompts, by number."""
    prompts = [f"Shot {letter}." for letter in "ABC"]
    write_manifest(shop.manifest, numbered(prompts), output="out/{{ id }}.mp4")
    shop.run()
    write_manifest(shop.manifest, numbered(["New.", *prompts]), output="out/{{ id }}.mp4")
    return ["New.", *prompts]


def numbered(prompts: list[str]) -> list[dict[str, str]]:
    return [{"id": f"shot-{number}", "prompt": prompt} for number, prompt in enumerate(prompts, 1)]


def test_ids_that_shift_are_taken_over_by_what_they_ask_for(shop: Shop) -> None:
    prompts = shifted_by_one(shop)
    with pytest.raises(ManifestChanged, match="3 jobs changed") as asked:
        shop.run()
    assert "3 jobs ask for what one of these was sent for: with redo, and then keep" in str(asked.value)
    with pytest.raises(ManifestChanged, match="shot-2: paid for as job shot-1~1"):
        shop.run(changed="redo")
    assert shop.bought() == 3
    assert shop.run(changed="keep").exit_code is ExitCode.DELIVERED
    assert shop.bought() == 4, "the new one alone"
    sql = "SELECT key, request, output_path FROM jobs WHERE state = 'done' ORDER BY key"
    done = rows(shop.folder / "batchgen.db", sql)
    assert [row["key"] for row in done] == ["shot-1", "shot-2", "shot-3", "shot-4"]
    assert all(prompt in row["request"] for prompt, row in zip(prompts, done, strict=True))
    assert len(shop.videos()) == 4
    assert shop.run().exit_code is ExitCode.DELIVERED
    assert shop.bought() == 4


def test_ids_that_shift_are_not_bought_again_where_edits_are_left_alone(shop: Shop) -> None:
    shifted_by_one(shop)
    assert [repeat.job.key for repeat in batchgen.plan(shop.manifest).table.repeats] == ["shot-4"]
    for _ in range(3):  # each takes one step: what a job was is what the next one asks for
        shop.run(changed="keep")
        assert shop.bought() == 3
    assert shop.run(changed="keep").exit_code is ExitCode.DELIVERED
    assert shop.bought() == 4


def test_a_video_that_cost_nothing_in_the_end_is_asked_about_as_well(shop: Shop) -> None:
    manifest = prefix_the_ids(shop)
    with Database(shop.folder / "batchgen.db") as database:
        database.write_now(lambda connection: connection.execute(update(attempts).values(cost_usd=Decimal(0))) and None)
    with pytest.raises(ManifestChanged, match="a-one: paid for as job one"):
        shop.run(manifest)
    assert shop.bought() == 2


def test_what_a_batch_paid_for_that_was_moved_to_another_table_is_not_taken_from_it(shop: Shop) -> None:
    shop.run()
    with Database(shop.folder / "batchgen.db") as database:
        copying.copy(database, shop.folder / "new.db", None, clock.utcnow(), lambda _table, _digest: None)
    shop.manifest.write_text(f"batch: other\n{shop.manifest.read_text()}")
    with pytest.raises(UsageError, match=r"m: this batch was moved to .*new\.db"):
        shop.run(changed="keep")
    assert shop.bought() == 2
