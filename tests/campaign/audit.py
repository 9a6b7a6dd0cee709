"""The audit at the end of a scenario: the service's ledger against the job table and the disk."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from batchgen.files.video import NotVideo, Undecodable, check
from batchgen.simulator.clips import CHANGED_SUFFIX
from batchgen.simulator.ledger import Generation, Ledger, usd
from tests.campaign.processes import KEY, Service, rows
from tests.events import check_events

GENERATIONS = """
SELECT j.key, j.state, j.error, j.output_path, j.attempt_id = a.id AS current, a.generation_id, a.outcome,
    a.finished_at, a.released_at, a.cost_usd, a.charge_source, a.id AS attempt_id
FROM attempts AS a JOIN jobs AS j ON j.id = a.job_id WHERE a.generation_id IS NOT NULL"""
FOREIGN_FILE = "campaign/j0.mp4"
FOREIGN_CONTENT = b"a holiday film, and not batchgen's"
SCRATCH = ("*.part", "*.run-*")

Query = Callable[[str], list[dict[str, Any]]]
"""Returns the rows of a SELECT on the job table, by column name."""


@dataclass(slots=True)
class AuditResult:
    """The counts of a scenario. `problems` are sentences, one for everything that should not be."""

    accepted: int = 0
    duplicates: int = 0
    lost: int = 0
    delivered: int = 0
    problems: list[str] = field(default_factory=list)


def audit(
    folder: Path,
    service: Service,
    *,
    query: Query | None = None,
    foreign_file: bool = False,
    table_was_lost: bool = False,
) -> AuditResult:
    """Count, and find every problem. Stops the service. Without `query`, the job table is SQLite's file in `folder`."""
    served = download_all(service)
    service.stop()
    ledger = Ledger(service.ledger)
    try:
        result = judge(folder, ledger, served, query or sqlite_query(folder), table_was_lost=table_was_lost)
        if foreign_file and (folder / FOREIGN_FILE).read_bytes() != FOREIGN_CONTENT:
            result.problems.append(f"{FOREIGN_FILE} was not batchgen's file, and has been overwritten")
        if query is None:
            result.problems += check_database(folder)
        return result
    finally:
        ledger.close()


def judge(
    folder: Path, ledger: Ledger, served: Mapping[str, bytes], query: Query, *, table_was_lost: bool = False
) -> AuditResult:
    """Hold the ledger against the job table and the files. `served` has the service's videos by generation."""
    generations = ledger.accepted()
    result = AuditResult(accepted=len(generations))
    result.duplicates = sum(len(ids) - 1 for ids in ledger.duplicates().values())
    if result.duplicates:
        result.problems.append(f"accepted more than once: {ledger.duplicates()}")
    result.problems += check_deliveries(result, folder, query, generations, served)
    result.problems += check_attempts(query, ledger, generations, table_was_lost=table_was_lost)
    result.problems += check_totals(query, generations)
    result.problems += check_leftovers(folder, query, ledger)
    result.problems += check_json_lines(folder)
    return result


def sqlite_query(folder: Path) -> Query:
    return partial(rows, folder / "batchgen.db")


def download_all(service: Service) -> dict[str, bytes]:
    """The videos that the service serves, by generation."""
    service.clear_faults()
    ledger = Ledger(service.ledger)
    completed = [generation for generation in ledger.accepted() if generation.outcome == "completed"]
    ledger.close()
    return {generation.id: download(service, generation) for generation in completed}


def check_json_lines(folder: Path) -> Iterator[str]:
    """Each line that a run wrote for programs is as the schema says. A killed run may have cut its last one."""
    for path in sorted(folder.glob("run-*.jsonl")):
        for line in path.read_text("utf-8").splitlines(keepends=True):
            try:
                if line.endswith("\n"):
                    check_events(line)
            except (ValueError, AssertionError) as error:
                yield f"{path.name}: a line that is not as the schema says ({error}): {line[:300]}"


def check_deliveries(
    result: AuditResult, folder: Path, query: Query, generations: list[Generation], served: Mapping[str, bytes]
) -> Iterator[str]:
    """Every charged video lies on the disk, whole, and its row says so; no other row says so. Counts into `result`."""
    jobs = {row["generation_id"]: row for row in query(GENERATIONS)}
    outputs: dict[int, list[dict[str, Any]]] = {}
    for output in query("SELECT * FROM outputs ORDER BY number"):
        outputs.setdefault(output["attempt_id"], []).append(output)
    for generation in generations:
        job = jobs.get(generation.id)
        files = outputs.get(job["attempt_id"], []) if job else []
        if generation.outcome != "completed":
            if job and job["current"] and job["state"] == "done":
                yield f"{job['key']}: done, but its generation {generation.id} never completed"
            if files:
                yield f"{generation.id} never completed, and has files: {files}"
            continue
        defect = delivery_defect(folder, job, files, generation, served[generation.id])
        if defect:
            result.lost += 1
            yield f"lost: {generation.id} of {json.loads(generation.body)['prompt']!r}: {defect}"
        else:
            result.delivered += 1
    ids = {generation.id for generation in generations}
    for job in jobs.values():
        if job["generation_id"] not in ids:
            yield f"{job['key']}: its generation {job['generation_id']} is not in the service's ledger"


def delivery_defect(
    folder: Path, job: dict[str, Any] | None, files: list[dict[str, Any]], generation: Generation, served: bytes
) -> str | None:
    """What is wrong with the delivery of a charged video; None if nothing is."""
    if job is None:
        return "no attempt has its id"
    if not job["current"]:
        return f"its job {job['key']} has another attempt"
    if job["state"] != "done":
        return f"its job {job['key']} is {job['state']} ({job['error']})"
    if [(output["path"], bool(output["delivered_at"])) for output in files] != [(job["output_path"], True)]:
        return f"{job['key']} is done with {job['output_path']}, its files are {files}"
    (output,) = files
    path = folder / job["output_path"]
    if not path.exists():
        return f"{job['output_path']} is missing"
    content = path.read_bytes()
    if (output["bytes"], output["sha256"]) != (len(content), sha256(content).hexdigest()):
        return f"{job['output_path']} is not what the row of its file says"
    if not job["finished_at"]:
        return f"{job['key']} is done, and its attempt has not finished"
    first = served.removesuffix(CHANGED_SUFFIX)
    if content not in (first, first + CHANGED_SUFFIX):  # what the service had before it changed the file, or after
        return f"{job['output_path']} is not what the service serves"
    try:
        check(path)
    except (NotVideo, Undecodable) as error:
        return f"{job['output_path']}: {error}"
    if job["cost_usd"] is None or Decimal(job["cost_usd"]) != usd(generation.micro_usd):
        return f"{job['key']} cost {usd(generation.micro_usd)} USD, its attempt says {job['cost_usd']}"
    return None


def check_attempts(
    query: Query, ledger: Ledger, generations: list[Generation], *, table_was_lost: bool
) -> Iterator[str]:
    """Each create request that reached the service has one attempt, and the attempt has the service's outcome.

    The attempts of a lost job table are gone with it, but for those that the service accepted.
    """
    select = "SELECT a.*, j.key FROM attempts AS a JOIN jobs AS j ON j.id = a.job_id"
    attempts = {row["client_request_id"]: row for row in query(select)}
    creates = ledger.query("SELECT client_request_id, status FROM requests WHERE kind = 'create'")
    for request_id, times in Counter(row["client_request_id"] for row in creates).items():
        if times > 1:
            yield f"{request_id} reached the service {times} times"
        if request_id not in attempts and table_was_lost:
            continue  # If it was accepted, it is missed below.
        if request_id not in attempts:
            yield f"{request_id} reached the service, and no attempt has it"
        elif attempts[request_id]["outcome"] == "not_sent":
            yield f"{request_id} reached the service; its attempt says that it was not sent"
    accepted = {generation.client_request_id: generation for generation in generations}
    for request_id, attempt in attempts.items():
        generation = accepted.pop(request_id, None)
        recorded = attempt["generation_id"] if attempt["outcome"] == "accepted" else None
        if recorded != (generation.id if generation else None):
            yield (
                f"{attempt['key']}: attempt {request_id} is {attempt['outcome']} {recorded},"
                f" the service says {generation}"
            )
    for request_id in accepted:
        yield f"{request_id} was accepted, and no attempt has it"
    undecided = Counter(
        row["key"]
        for row in attempts.values()
        if row["outcome"] in ("sending", "unconfirmed") and not row["released_at"]
    )
    for key, number in undecided.items():
        yield f"{key}: {number} attempt(s) undecided at the end"


def check_totals(query: Query, generations: list[Generation]) -> Iterator[str]:
    """The batch's running totals are what the service charged or named as charge, and the bytes that were delivered."""
    (batch,) = query("SELECT * FROM batches")
    # A stuck generation has not ended: it counts as the price that the answer to its create named.
    charged = sum(
        (usd(generation.micro_usd) for generation in generations if generation.outcome != "error"), Decimal(0)
    )
    if Decimal(batch["spent_nanousd"]).scaleb(-9) != charged:
        yield f"the service charged {charged} USD, the batch says {batch['spent_nanousd']} billionths"
    sizes = "SELECT coalesce(sum(bytes), 0) AS bytes FROM outputs WHERE delivered_at IS NOT NULL"
    (delivered,) = query(sizes)
    if batch["delivered_bytes"] != delivered["bytes"]:
        yield f"{delivered['bytes']} bytes were delivered, the batch says {batch['delivered_bytes']}"


def check_leftovers(folder: Path, query: Query, ledger: Ledger) -> Iterator[str]:
    """No scratch file, no video without a row, no API key, no traceback, no second delivery."""
    for pattern in SCRATCH:
        for path in folder.rglob(pattern):
            yield f"left behind: {path.relative_to(folder)}"
    delivered = "SELECT path FROM outputs WHERE delivered_at IS NOT NULL"
    recorded = {row["path"] for row in query(delivered)}
    for path in folder.rglob("*.mp4"):
        if path.relative_to(folder).as_posix() not in recorded and path.read_bytes() != FOREIGN_CONTENT:
            yield f"no row names the file {path.relative_to(folder)}"
    for leak in ledger.key_leaks():
        yield f"the key went to the file server: {leak}"
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("service."):
            content = path.read_bytes()
            if KEY.encode() in content:
                yield f"the key stands in {path.name}"
            if path.suffix == ".log" and b"Traceback" in content:
                yield f"a traceback in {path.name}"
    delivered_twice = (
        "SELECT j.key FROM events AS e JOIN jobs AS j ON j.id = e.job_id WHERE e.to_state = 'done'"
        " GROUP BY j.id HAVING count(*) > 1"
    )
    for row in query(delivered_twice):
        yield f"{row['key']} was delivered more than once"


def check_database(folder: Path) -> Iterator[str]:
    """SQLite finds no damage in its file."""
    for row in rows(folder / "batchgen.db", "PRAGMA integrity_check"):
        if row["integrity_check"] != "ok":
            yield f"the database is damaged: {row['integrity_check']}"


def download(service: Service, generation: Generation) -> bytes:
    """What the service serves now as the video of a generation."""
    query = urllib.parse.urlencode({"generation_id": generation.id})
    request = urllib.request.Request(
        f"{service.base_url}{generation.endpoint}?{query}", headers={"Authorization": "Bearer the-auditor"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        url = json.load(answer)["video"]["url"]
    with urllib.request.urlopen(url, timeout=60) as answer:
        content: bytes = answer.read()
    return content
