"""The service's ledger held against the job table and the disk, after a scenario has ended."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

from batchgen.files.video import NotVideo, Undecodable, check
from batchgen.simulator.clips import CHANGED_SUFFIX
from batchgen.simulator.ledger import Generation, Ledger
from tests.campaign.processes import KEY, Service, rows

IN_THE_WAY = "campaign/j0.mp4"
SOMEBODYS = b"a holiday film, and not batchgen's"
SCRATCH = ("*.part", "*.run-*")


@dataclass(slots=True)
class Books:
    """How a scenario came out. `surprises` are everything that should not be, in words."""

    accepted: int = 0
    duplicates: int = 0
    lost: int = 0
    delivered: int = 0
    surprises: list[str] = field(default_factory=list)


def audit(folder: Path, service: Service, *, in_the_way: bool = False) -> Books:
    """Count, and look for what should not be. Ends the service."""
    service.calm()
    ledger = Ledger(service.ledger)
    generations = ledger.accepted()
    served = {each.id: download(service, each) for each in generations if each.outcome == "completed"}
    ledger.close()
    service.end()
    ledger = Ledger(service.ledger)
    try:
        books = Books(accepted=len(generations))
        books.duplicates = sum(len(ids) - 1 for ids in ledger.duplicates().values())
        if in_the_way and (folder / IN_THE_WAY).read_bytes() != SOMEBODYS:
            books.surprises.append(f"{IN_THE_WAY} was somebody's file, and has been written over")
        if books.duplicates:
            books.surprises.append(f"accepted more than once: {ledger.duplicates()}")
        for surprise in (
            *deliveries(books, folder, generations, served),
            *correspondence(folder, ledger, generations),
            *leavings(folder, ledger),
        ):
            books.surprises.append(surprise)
        return books
    finally:
        ledger.close()


def deliveries(books: Books, folder: Path, generations: list[Generation], served: dict[str, bytes]) -> Iterator[str]:
    """Every video that is charged for lies on the disk, whole, and its row knows it; and no other row says so."""
    jobs = {job["generation_id"]: job for job in rows(folder / "batchgen.db", "SELECT * FROM jobs")}
    for generation in generations:
        job = jobs.get(generation.id)
        if generation.outcome != "completed":
            if job and job["state"] == "done":
                yield f"{job['key']}: done, but its generation {generation.id} never completed"
            continue
        wrong = defect(folder, job, generation, served[generation.id])
        if wrong:
            books.lost += 1
            yield f"lost: {generation.id} of {json.loads(generation.body)['prompt']!r}: {wrong}"
        else:
            books.delivered += 1
    known = {each.id for each in generations}
    for job in jobs.values():
        if job["generation_id"] and job["generation_id"] not in known:
            yield f"{job['key']}: its generation {job['generation_id']} is not in the service's ledger"


def defect(folder: Path, job: dict[str, Any] | None, generation: Generation, served: bytes) -> str | None:
    """What is wrong with the delivery of a charged video."""
    if job is None:
        return "no row has its id"
    if job["state"] != "done":
        return f"its job {job['key']} is {job['state']} ({job['error']})"
    path = folder / job["output_path"]
    if not path.exists():
        return f"{job['output_path']} is missing"
    content = path.read_bytes()
    if (job["bytes"], job["sha256"]) != (len(content), sha256(content).hexdigest()):
        return f"{job['output_path']} is not what the row of {job['key']} says"
    first = served.removesuffix(CHANGED_SUFFIX)
    if content not in (first, first + CHANGED_SUFFIX):  # what the service had before it changed the file, or after
        return f"{job['output_path']} is not what the service serves"
    try:
        check(path)
    except (NotVideo, Undecodable) as error:
        return f"{job['output_path']}: {error}"
    if job["cost_usd"] is None or Decimal(job["cost_usd"]) != generation.cost_usd:
        return f"{job['key']} cost {generation.cost_usd} USD, its row says {job['cost_usd']}"
    return None


def correspondence(folder: Path, ledger: Ledger, generations: list[Generation]) -> Iterator[str]:
    """Each create request that reached the service has one attempt, with the outcome that it had."""
    asked = "SELECT a.*, j.key FROM attempts AS a JOIN jobs AS j ON j.id = a.job_id"
    attempts = {row["client_request_id"]: row for row in rows(folder / "batchgen.db", asked)}
    creates = ledger.query("SELECT client_request_id, status FROM requests WHERE kind = 'create'")
    for name, times in Counter(row["client_request_id"] for row in creates).items():
        if times > 1:
            yield f"{name} reached the service {times} times"
        if name not in attempts:
            yield f"{name} reached the service, and no attempt knows it"
        elif attempts[name]["outcome"] == "not_sent":
            yield f"{name} reached the service; its attempt says that it was not sent"
    made = {each.client_request_id: each for each in generations}
    for name, attempt in attempts.items():
        generation = made.pop(name, None)
        told = attempt["generation_id"] if attempt["outcome"] == "accepted" else None
        if told != (generation.id if generation else None):
            yield f"{attempt['key']}: attempt {name} is {attempt['outcome']} {told}, the service says {generation}"
    for name in made:
        yield f"{name} was accepted, and no attempt knows it"
    open_still = Counter(row["key"] for row in attempts.values() if row["outcome"] in ("sending", "unconfirmed"))
    for key, number in open_still.items():
        yield f"{key}: {number} attempt(s) undecided at the end"


def leavings(folder: Path, ledger: Ledger) -> Iterator[str]:
    """No scratch files, no files but those of rows, no key anywhere, no traceback, no delivery twice."""
    for pattern in SCRATCH:
        for path in folder.rglob(pattern):
            yield f"left behind: {path.relative_to(folder)}"
    named = {row["output_path"] for row in rows(folder / "batchgen.db", "SELECT * FROM jobs WHERE state = 'done'")}
    for path in folder.rglob("*.mp4"):
        if path.relative_to(folder).as_posix() not in named and path.read_bytes() != SOMEBODYS:
            yield f"no row knows the file {path.relative_to(folder)}"
    for leak in ledger.key_leaks():
        yield f"the key went to the file server: {leak}"
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("service."):
            content = path.read_bytes()
            if KEY.encode() in content:
                yield f"the key stands in {path.name}"
            if path.suffix == ".log" and b"Traceback" in content:
                yield f"a traceback in {path.name}"
    twice = (
        "SELECT j.key FROM events AS e JOIN jobs AS j ON j.id = e.job_id WHERE e.to_state = 'done'"
        " GROUP BY j.id HAVING count(*) > 1"
    )
    for row in rows(folder / "batchgen.db", twice):
        yield f"{row['key']} was delivered more than once"
    for row in rows(folder / "batchgen.db", "PRAGMA integrity_check"):
        if row["integrity_check"] != "ok":
            yield f"the database is damaged: {row['integrity_check']}"


def download(service: Service, generation: Generation) -> bytes:
    """What the service serves now as the video of a generation."""
    query = urllib.parse.urlencode({"generation_id": generation.id})
    asked = urllib.request.Request(
        f"{service.base_url}{generation.endpoint}?{query}", headers={"Authorization": "Bearer the-auditor"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        url = json.load(answer)["video"]["url"]
    with urllib.request.urlopen(url, timeout=60) as answer:
        content: bytes = answer.read()
    return content
