"""The views: the public SQL interface of the job table. `batchgen sql` lists them.

Their names, columns and words stay the same while the tables may change. They have the same columns in SQLite and in
PostgreSQL. Amounts are numbers in USD, lengths of time are seconds, `id` is the manifest's id of a job. No view reads a
clock, and none refers to another one.
"""

import sqlalchemy as sa
from alembic import op

revision = "v002"
down_revision = "v001"

MAY_BE_PAID = "('sending', 'unconfirmed', 'accepted')"
BLACK, FROZEN, UNLIKE = 0.5, 0.5, 0.55  # the shares from which a clip is a problem, as ix_outputs_suspect has them
SECONDS_OFF = 0.5  # by which the length of a clip may differ from the one that was ordered


def verdict_of(attempt: str) -> str:
    """The row of `verdicts` that counts for an attempt, the newest."""
    return f"(SELECT max(newest.id) FROM verdicts newest WHERE newest.attempt_id = {attempt})"


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"

    def seconds(start: str, end: str) -> str:
        """Between two times, to the millisecond."""
        if is_sqlite:
            return milliseconds(f"(julianday({end}) - julianday({start})) * 86400")
        return milliseconds(f"extract(epoch FROM {end} - {start})")

    def milliseconds(number: str) -> str:
        """Seconds, rounded."""
        if is_sqlite:
            return f"round({number}, 3)"
        return f"CAST(round(CAST({number} AS numeric), 3) AS double precision)"

    def usd(amount: str) -> str:
        """An amount as a number: SQLite keeps it as text, which is greater than any number."""
        return f"CAST({amount} AS REAL)" if is_sqlite else amount

    def usd_sum(amount: str) -> str:
        """A sum that is exact to the seventh place: in SQLite, whole numbers are added."""
        if is_sqlite:
            return f"coalesce(sum(CAST(round({amount} * 1e7) AS INTEGER)), 0) / 1e7"
        return f"coalesce(sum({amount}), 0)"

    def usd_of_billionths(amount: str) -> str:
        return f"round({amount} / {'1e9' if is_sqlite else '1000000000.0'}, 7)"

    def day(time: str) -> str:
        return f"substr({time}, 1, 10)" if is_sqlite else f"to_char({time} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"

    def prompt(request: str) -> str:
        # PostgreSQL has no text with a zero character, and would refuse the whole query for one.
        value = f"json_extract({request}, '$.prompt')" if is_sqlite else f"CAST({request} AS json) ->> 'prompt'"
        return f"CASE WHEN {request} NOT LIKE '%\\u0000%' ESCAPE '!' THEN {value} END"

    def percent(share: str) -> str:
        return f"CAST(round({share} * 100) AS INTEGER)"

    def shown(number: str) -> str:
        return f"printf('%.6g', {number})" if is_sqlite else number

    cost_of_job = f"(SELECT {usd_sum('x.cost_usd')} FROM attempts x WHERE x.job_id = j.id)"
    reserved_for_job = f"""(
        SELECT {usd_sum("x.estimated_usd")} FROM attempts x
        WHERE x.job_id = j.id AND x.cost_usd IS NULL AND x.outcome IN {MAY_BE_PAID}
    )"""
    create_view(
        "job_overview",
        f"""
        SELECT b.name AS batch, j.key AS id, j.state,
            j.service, j.model, j.clip_seconds, j.take, j.tags, {prompt("j.request")} AS prompt,
            (SELECT count(*) FROM attempts x WHERE x.job_id = j.id) AS attempts,
            {cost_of_job} AS cost_usd, {reserved_for_job} AS reserved_usd,
            v.verdict, v.stars,
            CASE WHEN o.delivered_at IS NOT NULL THEN o.path END AS path,
            o.bytes, o.seconds, o.width, o.height,
            j.error_class, j.error AS reason,
            CASE WHEN a.intent_at < j.created_at THEN 0.0 ELSE {seconds("j.created_at", "a.intent_at")} END
                AS wait_seconds,
            CASE WHEN o.url = '' THEN NULL ELSE {seconds("a.answered_at", "a.finished_at")} END AS generation_seconds,
            CASE WHEN o.url = '' THEN NULL ELSE {seconds("a.finished_at", "j.delivered_at")} END AS download_seconds,
            j.created_at, a.intent_at AS sent_at, a.finished_at, j.delivered_at,
            a.generation_id
        FROM jobs j
        JOIN batches b ON b.id = j.batch_id
        LEFT JOIN attempts a ON a.id = j.attempt_id
        LEFT JOIN outputs o ON o.attempt_id = a.id AND o.number = 1
        LEFT JOIN verdicts v ON v.id = {verdict_of("j.attempt_id")}
        """,
    )
    states = ("pending", "submitting", "unconfirmed", "generating", "downloading", "done", "failed", "cancelled")
    counts = ", ".join(f"count(CASE WHEN j.state = '{state}' THEN 1 END) AS {state}" for state in states)
    create_view(
        "batch_summary",
        f"""
        SELECT b.name AS batch, b.service, b.manifest_path AS manifest,
            count(j.id) AS jobs, {counts},
            count(CASE WHEN v.verdict = 'picked' THEN 1 END) AS picked,
            count(CASE WHEN v.verdict = 'rejected' THEN 1 END) AS rejected,
            {usd_of_billionths("b.spent_nanousd")} AS cost_usd,
            {usd_of_billionths("b.reserved_nanousd")} AS reserved_usd,
            b.unpriced, b.delivered_bytes AS bytes, b.created_at, max(j.delivered_at) AS last_delivered_at
        FROM batches b
        LEFT JOIN jobs j ON j.batch_id = b.id
        LEFT JOIN verdicts v ON v.id = {verdict_of("j.attempt_id")}
        GROUP BY b.id
        """,
    )
    is_delivered = "EXISTS (SELECT 1 FROM outputs x WHERE x.attempt_id = a.id AND x.delivered_at IS NOT NULL)"
    create_view(
        "ledger",
        f"""
        SELECT b.name AS batch, j.key AS id, a.number AS attempt,
            CASE
                WHEN a.outcome = 'not_sent' THEN 'not_sent'
                WHEN a.outcome IN ('rejected', 'throttled', 'blocked') THEN 'refused'
                WHEN a.outcome = 'absent' THEN 'absent'
                WHEN a.outcome <> 'accepted' AND j.attempt_id = a.id AND j.state = 'submitting' THEN 'sending'
                WHEN a.outcome <> 'accepted' THEN 'unconfirmed'
                WHEN j.attempt_id = a.id AND j.state IN ('generating', 'downloading') THEN j.state
                WHEN {is_delivered} THEN 'delivered'
                WHEN {usd("a.cost_usd")} = 0 THEN 'free_failure'
                WHEN a.cost_usd IS NOT NULL THEN 'charged_without_file'
                ELSE 'unsettled'
            END AS fate,
            CASE WHEN a.cost_usd IS NULL AND a.outcome NOT IN {MAY_BE_PAID} THEN 0.0 ELSE {usd("a.cost_usd")} END
                AS cost_usd,
            {usd("a.estimated_usd")} AS estimated_usd, a.charge_source,
            a.service, a.model, a.account, a.intent_at AS sent_at, a.answered_at, a.finished_at,
            a.generation_id, a.client_request_id, a.http_status, a.error_class, a.error AS reason,
            CASE WHEN o.delivered_at IS NOT NULL THEN o.path END AS path
        FROM attempts a
        JOIN jobs j ON j.id = a.job_id
        JOIN batches b ON b.id = j.batch_id
        LEFT JOIN outputs o ON o.attempt_id = a.id AND o.number = 1
        """,
    )
    create_view(
        "blockers",
        """
        SELECT b.name AS batch,
            CASE
                WHEN w.waiting_for = 'free_place' AND EXISTS (
                    SELECT 1 FROM settings s
                    WHERE s.batch_id = b.id AND s.name = 'paused' AND s.value IS NOT NULL AND s.replaced_at IS NULL
                ) THEN 'resume'
                ELSE w.waiting_for
            END AS waiting_for,
            w.jobs, w.until, w.collect_by, e.key AS example_id, e.error AS reason
        FROM (
            SELECT j.batch_id,
                CASE
                    WHEN j.state = 'pending' THEN 'free_place'
                    WHEN j.state = 'generating' THEN 'generation'
                    WHEN j.state = 'downloading' THEN 'download'
                    WHEN j.next_at IS NULL THEN 'person'
                    ELSE 'confirmation'
                END AS waiting_for,
                count(*) AS jobs,
                CASE WHEN count(*) = count(j.next_at) THEN min(j.next_at) END AS until,
                min(CASE WHEN j.state = 'downloading' THEN a.collect_by END) AS collect_by,
                coalesce(min(CASE WHEN j.error IS NOT NULL THEN j.id END), min(j.id)) AS example
            FROM jobs j
            LEFT JOIN attempts a ON a.id = j.attempt_id
            WHERE j.state IN ('pending', 'unconfirmed', 'generating', 'downloading')
            GROUP BY 1, 2
        ) w
        JOIN batches b ON b.id = w.batch_id
        JOIN jobs e ON e.id = w.example
        UNION ALL
        SELECT b.name, 'pause', count(*), l.paused_until, NULL, min(j.key), l.reason
        FROM limits l
        JOIN batches b ON b.service = l.service
        JOIN jobs j ON j.batch_id = b.id AND j.state = 'pending'
        WHERE l.paused_until > (SELECT e.at FROM events e WHERE e.batch_id = b.id ORDER BY e.id DESC LIMIT 1)
        GROUP BY b.id, l.service, l.kind, l.account, l.model
        """,
    )
    create_view(
        "failures",
        f"""
        SELECT b.name AS batch, f.error_class, f.jobs, f.cost_usd, f.last_failed_at, e.key AS example_id,
            e.error AS reason
        FROM (
            SELECT j.batch_id, j.error_class, count(*) AS jobs, {usd_sum("a.cost_usd")} AS cost_usd,
                max(j.failed_at) AS last_failed_at, min(j.id) AS example
            FROM jobs j
            LEFT JOIN attempts a ON a.id = j.attempt_id
            WHERE j.state = 'failed'
            GROUP BY 1, 2
        ) f
        JOIN batches b ON b.id = f.batch_id
        JOIN jobs e ON e.id = f.example
        """,
    )
    create_view(
        "spend",
        f"""
        SELECT b.name AS batch, a.service, a.model, {day("a.intent_at")} AS day,
            count(*) AS requests, count(CASE WHEN {is_delivered} THEN 1 END) AS delivered,
            {usd_sum("a.cost_usd")} AS cost_usd,
            {usd_sum("CASE WHEN a.cost_usd IS NULL THEN a.estimated_usd END")} AS reserved_usd
        FROM attempts a
        JOIN jobs j ON j.id = a.job_id
        JOIN batches b ON b.id = j.batch_id
        WHERE a.outcome IN {MAY_BE_PAID}
        GROUP BY 1, 2, 3, 4
        """,
    )
    create_view(
        "generation_times",
        f"""
        SELECT service, model, clip_seconds, count(*) AS generations,
            min(seconds) AS min_seconds,
            {milliseconds("avg(CASE WHEN 2 * place BETWEEN number AND number + 2 THEN seconds END)")} AS median_seconds,
            {milliseconds("avg(seconds)")} AS mean_seconds, max(seconds) AS max_seconds
        FROM (
            SELECT g.*,
                row_number() OVER (PARTITION BY service, model, clip_seconds ORDER BY seconds) AS place,
                count(*) OVER (PARTITION BY service, model, clip_seconds) AS number
            FROM (
                SELECT a.service, a.model, j.clip_seconds, {seconds("a.answered_at", "a.finished_at")} AS seconds
                FROM outputs o
                JOIN attempts a ON a.id = o.attempt_id
                JOIN jobs j ON j.id = a.job_id
                WHERE o.number = 1 AND o.url <> '' AND a.finished_at IS NOT NULL
            ) g
        ) ranked
        GROUP BY service, model, clip_seconds
        """,
    )
    earlier = "(SELECT max(p.at) FROM events p WHERE p.job_id = e.job_id AND p.id < e.id)"
    create_view(
        "timeline",
        f"""
        SELECT e.id AS number, e.at, b.name AS batch, j.key AS id, e.from_state, e.to_state, e.detail,
            {seconds(earlier, "e.at")} AS seconds_before
        FROM events e
        JOIN jobs j ON j.id = e.job_id
        JOIN batches b ON b.id = j.batch_id
        """,
    )
    from_files = """
        FROM outputs o
        JOIN attempts a ON a.id = o.attempt_id
        JOIN jobs j ON j.attempt_id = a.id AND j.id = a.job_id
        JOIN batches b ON b.id = j.batch_id
    """
    file = "b.name AS batch, j.key AS id, o.number AS output, o.path"
    problems = {
        "black": (f"{percent('o.black')} || ' % of the time it is black'", f"o.black >= {BLACK}"),
        "frozen": (f"{percent('o.frozen')} || ' % of the time nothing moves'", f"o.frozen >= {FROZEN}"),
        "unlike_input": ("'the first frame is unlike the image of the request'", f"o.unlike_input >= {UNLIKE}"),
        "length": (
            f"{shown('j.clip_seconds + o.seconds_off')} || ' s instead of ' || {shown('j.clip_seconds')} || ' s'",
            f"abs(o.seconds_off) > {SECONDS_OFF}",
        ),
        "unreadable": ("'its frames cannot be read'", "o.measured_at IS NOT NULL AND o.black IS NULL"),
        "remark": ("o.remark", "o.remark IS NOT NULL"),
    }
    parts = [
        f"SELECT {file}, '{name}' AS problem, {detail} AS detail {from_files}"
        f" WHERE o.delivered_at IS NOT NULL AND {condition}"
        for name, (detail, condition) in problems.items()
    ]
    parts.append(
        f"""
        SELECT {file}, 'near_copy', twin.key {from_files}
        JOIN outputs twin_file ON twin_file.id = o.copy_of
        JOIN attempts original ON original.id = twin_file.attempt_id
        JOIN jobs twin ON twin.id = original.job_id
        WHERE o.delivered_at IS NOT NULL
        """
    )
    create_view("problems", " UNION ALL ".join(parts))
    create_view(
        "lineage",
        f"""
        WITH RECURSIVE ancestors(job_id, parent_batch, parent_key, depth) AS (
            SELECT j.id, j.parent_batch, j.parent_key, 1 FROM jobs j WHERE j.parent_key IS NOT NULL
            UNION ALL
            SELECT x.job_id, p.parent_batch, p.parent_key, x.depth + 1
            FROM ancestors x
            JOIN batches b ON b.name = x.parent_batch
            JOIN jobs p ON p.batch_id = b.id AND p.key = x.parent_key
            WHERE p.parent_key IS NOT NULL AND x.depth < 100
        )
        SELECT b.name AS batch, j.key AS id, j.parent_batch, j.parent_key AS parent_id, d.depth,
            j.state, v.verdict, p.state AS parent_state, pv.verdict AS parent_verdict
        FROM (SELECT job_id, max(depth) AS depth FROM ancestors GROUP BY job_id) d
        JOIN jobs j ON j.id = d.job_id
        JOIN batches b ON b.id = j.batch_id
        LEFT JOIN verdicts v ON v.id = {verdict_of("j.attempt_id")}
        LEFT JOIN batches pb ON pb.name = j.parent_batch
        LEFT JOIN jobs p ON p.batch_id = pb.id AND p.key = j.parent_key
        LEFT JOIN verdicts pv ON pv.id = {verdict_of("p.attempt_id")}
        """,
    )


def create_view(name: str, query: str) -> None:
    op.execute(sa.text(f"CREATE VIEW {name} AS {' '.join(query.split())}".replace(":", "\\:")))
