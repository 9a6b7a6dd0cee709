"""The views of the job table, described: the public SQL interface. Migrations make them.

`batchgen sql` and `batchgen explore` show what stands here. A test compares it with the database and with the README.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batchgen.catalogue.wording import listed
from batchgen.jobs import State

FATES = {
    "delivered": "its file is on the disk",
    "sending": "on the wire",
    "generating": "the service is making it",
    "downloading": "finished at the service, to be downloaded",
    "unconfirmed": "sent, and nobody knows whether the service took it: it may be charged",
    "charged_without_file": "charged, and no file came of it",
    "unsettled": "ended without a file, and its charge is not known yet",
    "free_failure": "failed at the service, which charges nothing",
    "refused": "the service refused it, for nothing",
    "absent": "sent, and the service never had it",
    "not_sent": "it never left",
}
"""What became of a create request: the closed set of words of `ledger.fate`."""
WAITING_FOR = {
    "free_place": "a place within the limits and the cap, or a run",
    "resume": "you: the batch is paused, and `batchgen resume` lets it go on",
    "pause": "the end of a pause that the service asked for",
    "confirmation": "the service's word whether it took a request",
    "generation": "the service to finish",
    "download": "the file",
    "person": "you: see `batchgen resolve`",
}
"""The closed set of words of `blockers.waiting_for`."""
PROBLEMS = {
    "black": "black for half of its time, or more",
    "frozen": "nothing moves for half of its time, or more",
    "unlike_input": "a first frame unlike the image of the request",
    "near_copy": "nearly the same as the clip of the job in `detail`",
    "length": "another length than was ordered",
    "unreadable": "frames that cannot be read",
    "remark": "what the download noticed",
}
"""The closed set of words of `problems.problem`."""


@dataclass(frozen=True, slots=True)
class View:
    """One view: what its rows are, the names of its columns, and notes on those whose names do not say everything.

    The note of a column that holds one of a closed set of words is these words, with their meanings.
    """

    rows: str
    names: str
    notes: Mapping[str, str | Mapping[str, str]]

    @property
    def columns(self) -> list[str]:
        return self.names.split()

    def note_lines(self, column: str) -> list[str]:
        """The note of a column, "" for none; of a closed set of words, a line for each."""
        note = self.notes.get(column, "")
        return [note] if isinstance(note, str) else [f"{word}: {meaning}" for word, meaning in note.items()]


COST = "charged so far, in USD"
RESERVED = "what may still be charged, in USD, as far as prices are known"
VIEWS = {
    "job_overview": View(
        "One row for each job: what was asked, where it stands, what it cost, which file came of it.",
        "batch id state service model clip_seconds take tags prompt attempts cost_usd reserved_usd verdict "
        "stars path bytes seconds width height error_class reason wait_seconds generation_seconds "
        "download_seconds created_at sent_at finished_at delivered_at generation_id",
        {
            "id": "the manifest's id of the job",
            "state": listed(list(State), "or"),
            "clip_seconds": "the length that was ordered",
            "tags": "a JSON list; one row a tag: json_each(tags), in PostgreSQL json_array_elements_text(tags::json)",
            "attempts": "how many create requests it has had",
            "cost_usd": f"{COST}, for all its attempts",
            "reserved_usd": RESERVED,
            "verdict": "picked or rejected; NULL: undecided",
            "stars": "1 to 5",
            "path": "its first file, below the manifest's folder; NULL until it is delivered",
            "seconds": "the length of the file",
            "reason": "why it failed or waits, or a remark on its file",
            "wait_seconds": "from its entry in the table to its last create request",
            "generation_seconds": "from the service's acceptance to the end of the generation",
            "download_seconds": "from then to the delivery",
            "generation_id": "the service's id of the generation",
        },
    ),
    "batch_summary": View(
        "One row for each batch: its jobs by state and verdict, its cost, its bytes.",
        f"batch service manifest jobs {' '.join(State)} picked rejected cost_usd reserved_usd unpriced bytes "
        "created_at last_delivered_at",
        {
            "cost_usd": COST,
            "reserved_usd": RESERVED,
            "unpriced": "requests without a known price that may still be charged",
            "bytes": "delivered",
        },
    ),
    "ledger": View(
        "One row for each create request, and its fate. Rows are never deleted.",
        "batch id attempt fate cost_usd estimated_usd charge_source service model account sent_at answered_at "
        "finished_at generation_id client_request_id http_status error_class reason path",
        {
            "attempt": "its number among the requests of the job",
            "fate": FATES,
            "cost_usd": "charged, in USD; NULL while the charge is not known",
            "estimated_usd": "what the price list said, or was charged before where that was more",
            "charge_source": "what the charge is known from: answer, poll, log, ledger (of the account) or estimate",
            "account": "a label of the API key",
            "client_request_id": "by which the service's log has it",
        },
    ),
    "blockers": View(
        "What the jobs of a batch wait for, and until when.",
        "batch waiting_for jobs until collect_by example_id reason",
        {
            "waiting_for": WAITING_FOR,
            "jobs": "how many",
            "until": "when batchgen tries next; NULL: at once, or it is not known. It may have passed",
            "collect_by": "when the service may delete the first file that waits to be downloaded",
            "example_id": "one of the jobs",
            "reason": "its last error",
        },
    ),
    "failures": View(
        "Failed jobs by class of error, with an example.",
        "batch error_class jobs cost_usd last_failed_at example_id reason",
        {
            "jobs": "how many",
            "cost_usd": "charged all the same, in USD",
            "example_id": "one of the jobs",
            "reason": "why that one failed",
        },
    ),
    "spend": View(
        "What was spent, by batch, service, model and day (UTC).",
        "batch service model day requests delivered cost_usd reserved_usd",
        {
            "day": "YYYY-MM-DD",
            "requests": "those that cost money, or may",
            "delivered": "requests whose files were delivered",
            "cost_usd": COST,
            "reserved_usd": RESERVED,
        },
    ),
    "generation_times": View(
        "How long generations take, by service, model and length of the clip.",
        "service model clip_seconds generations min_seconds median_seconds mean_seconds max_seconds",
        {
            "generations": "how many",
        },
    ),
    "timeline": View(
        "Everything that happened: one row for each change of state.",
        "number at batch id from_state to_state detail seconds_before",
        {
            "number": "counts up in the order of events",
            "from_state": "NULL: the job entered the table",
            "seconds_before": "since the job's event before",
        },
    ),
    "problems": View(
        "Delivered files that are not as they should be.",
        "batch id output path problem detail",
        {
            "output": "the number of the file, from 1",
            "problem": PROBLEMS,
        },
    ),
    "lineage": View(
        "Jobs that `batchgen next` made from others.",
        "batch id parent_batch parent_id depth state verdict parent_state parent_verdict",
        {
            "depth": "1: made from a job of a first manifest; 2: from one of those; …",
            "parent_state": "NULL: the parent is not in this table",
        },
    ),
}
"""The views by name, in the order in which they are shown. Times are UTC."""


@dataclass(frozen=True, slots=True)
class Example:
    question: str
    sql: str


EXAMPLES = {
    "cost": Example(
        "What has each batch cost, by model?",
        "SELECT batch, model, sum(delivered) AS clips, round(sum(cost_usd), 4) AS usd FROM spend GROUP BY 1, 2;",
    ),
    "failed": Example(
        "What failed, and in whose words?",
        "SELECT id, model, error_class, reason FROM job_overview WHERE state = 'failed';",
    ),
    "times": Example(
        "How long do the models take?",
        "SELECT model, clip_seconds, generations, median_seconds, max_seconds FROM generation_times;",
    ),
    "story": Example(
        "What happened to one job?",
        "SELECT at, from_state, to_state, detail FROM timeline WHERE id = 'mona' ORDER BY number;",
    ),
    "bill": Example(
        "Which requests may have cost money, and what became of them?",
        "SELECT batch, id, fate, cost_usd, sent_at FROM ledger WHERE coalesce(cost_usd, 1) > 0 ORDER BY sent_at;",
    ),
}
"""The queries of the README, and those that `batchgen explore` offers."""
