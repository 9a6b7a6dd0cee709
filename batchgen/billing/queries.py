"""The SQL of the scratch database of a reconciliation (see `books.py`)."""

from __future__ import annotations

from batchgen.billing.settlements import Settlement

OPEN_SETTLEMENTS = ", ".join(f"'{settlement}'" for settlement in Settlement if not settlement.closes)

SCHEMA = """
CREATE TABLE transactions (n INTEGER PRIMARY KEY, at, kind, type, model, generation, nanousd,
    settlement, note, key, state);
CREATE TABLE billed (id INTEGER PRIMARY KEY, key, number, model, state, outcome, generation, request, intent_at,
    finished_at, deadline_at, cost, named, estimated, since, until, lost, is_of_account, is_delivered, is_current,
    settlement, note);
CREATE TABLE log (request, generation, at, certain, PRIMARY KEY (request, generation)) WITHOUT ROWID;
CREATE TABLE others (generation PRIMARY KEY, batch) WITHOUT ROWID;
CREATE TABLE job_digits (digits, key, state);
CREATE TABLE unclaimed (request, generation, at, key, state, note);
"""
"""`billed` has the batch's attempts, `others` the generations of other batches of the job table, `unclaimed` the
requests that stand in the log alone. `request` is a client request id, and `digits` are those of a fingerprint in one.
"""
INDEXES = """
CREATE INDEX IF NOT EXISTS transactions_generation ON transactions (generation);
CREATE INDEX IF NOT EXISTS billed_generation ON billed (generation);
CREATE INDEX IF NOT EXISTS billed_settlement ON billed (settlement, model);
CREATE INDEX IF NOT EXISTS billed_lost ON billed (model, since) WHERE generation IS NULL AND lost;
CREATE INDEX IF NOT EXISTS transactions_settlement ON transactions (settlement, at);
CREATE INDEX IF NOT EXISTS log_generation ON log (generation);
CREATE INDEX IF NOT EXISTS job_digits_of_request ON job_digits (digits);
"""

INSERT_TRANSACTION = "INSERT INTO transactions VALUES (NULL, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL, NULL)"
INSERT_ATTEMPT = f"INSERT INTO billed VALUES ({', '.join('?' * 20)}, NULL, NULL)"  # noqa: S608  only marks

FROM_LOG = """
UPDATE billed SET generation = log.generation FROM log
WHERE billed.generation IS NULL AND log.request = billed.request AND log.certain"""
"""An attempt whose answer was lost has the generation that the service's log gives it."""

BILLED = """
WITH amounts AS (
    SELECT generation, kind, count(*) AS number, count(*) * nanousd AS nanousd
    FROM transactions WHERE kind <> 'other' AND generation IS NOT NULL GROUP BY generation, kind, nanousd
), sums AS (
    SELECT generation, sum(iif(kind = 'charge', number, 0)) AS charges, sum(iif(kind = 'refund', number, 0)) AS refunds,
        sum(iif(kind = 'charge', nanousd, 0)) AS charged, -sum(iif(kind = 'refund', nanousd, 0)) AS refunded,
        max(iif(kind = 'charge', number, 0)) AS same_amount
    FROM amounts GROUP BY generation
)
SELECT a.*, a.named AS named_usd, a.estimated AS estimated_usd, ifnull(charges, 0) AS charges,
    ifnull(refunds, 0) AS refunds, ifnull(charged, 0) AS charged_usd, ifnull(refunded, 0) AS refunded_usd,
    ifnull(same_amount, 0) AS same_amount,
    a.lost AND EXISTS (
        SELECT 1 FROM transactions AS t WHERE t.settlement IN ('unknown', 'unidentified') AND t.kind = 'charge'
        AND t.at BETWEEN a.since AND a.until AND ifnull(nullif(t.model, ''), a.model) = a.model
    ) AS may_be_charged
FROM billed AS a LEFT JOIN sums ON sums.generation = a.generation AND a.is_of_account ORDER BY a.id"""
"""The attempts with their transactions summed."""

UNMATCHED = """
SELECT t.n, t.at, t.kind = 'other' AS is_balance, t.generation AS generation_id, e.key AS job_of_other_account,
    o.batch AS other_batch, l.request AS client_request_id, digits_of(l.request) IS NOT NULL AS is_batchgen,
    j.key, j.state, max(2 * ifnull(l.certain, 0) + ifnull(j.state = 'pending', 0)) AS best,
    (SELECT min(u.key) FROM billed AS u WHERE u.generation IS NULL AND u.lost
        AND u.is_of_account AND NOT (u.is_current AND u.state = 'unconfirmed')
        AND u.model = ifnull(nullif(t.model, ''), u.model) AND t.at BETWEEN u.since AND u.until) AS likely_job
FROM transactions AS t LEFT JOIN billed AS a ON a.generation = t.generation AND a.is_of_account
LEFT JOIN billed AS e ON e.generation = t.generation LEFT JOIN others AS o ON o.generation = t.generation
LEFT JOIN log AS l ON l.generation = t.generation LEFT JOIN job_digits AS j ON j.digits = digits_of(l.request)
WHERE a.id IS NULL GROUP BY t.n"""
"""The transactions of no attempt, each with what is known of it: the surest row that the log has of its generation, and
a job whose answer was lost and for which nobody waits any more. That may be the reason, although the log lacks it."""

UNCLAIMED = """
INSERT INTO unclaimed SELECT l.request, l.generation, l.at, min(j.key) AS key, min(j.state) AS state,
    'the request of job ' || min(j.key) || ' stands in the log, and this job table does not have it'
FROM log AS l JOIN job_digits AS j ON j.digits = digits_of(l.request)
WHERE l.certain AND l.generation NOT IN (SELECT generation FROM billed WHERE generation IS NOT NULL)
    AND l.request NOT IN (SELECT request FROM billed)
    AND l.generation NOT IN (SELECT generation FROM others)
    AND l.generation NOT IN (SELECT generation FROM transactions WHERE generation IS NOT NULL)
GROUP BY l.request, l.generation"""
"""Requests of this batch's jobs in the log that the job table does not have, and that are not charged yet."""

FROM_TABLE = """
INSERT INTO transactions (at, kind, type, model, generation, nanousd)
SELECT ifnull(finished_at, intent_at), 'charge', 'job table', model, generation, cost FROM billed
WHERE is_of_account AND cost > 0 AND generation IS NOT NULL"""
"""What the job table knows of charges, where the service lists none."""

FORGET_SETTLEMENTS = (
    "UPDATE transactions SET settlement = NULL, note = NULL, key = NULL, state = NULL WHERE settlement IS NOT NULL"
)
SET_SETTLEMENT = "UPDATE billed SET settlement = ?, note = ? WHERE id = ?"
SET_UNMATCHED = "UPDATE transactions SET settlement = ?, note = ?, key = ?, state = ? WHERE n = ?"

NOTE_LIKELY_JOBS = """
UPDATE transactions SET note = note || '; it may be that of job ' || guess.key FROM (
    SELECT n, key FROM (
        SELECT n, model, nanousd, row_number() OVER (PARTITION BY model, nanousd ORDER BY at, n) AS place
        FROM transactions WHERE generation IS NULL AND kind = 'charge'
    ) JOIN (
        SELECT key, model, ifnull(named, estimated) AS nanousd,
            row_number() OVER (PARTITION BY model, ifnull(named, estimated) ORDER BY intent_at, id) AS place
        FROM billed WHERE settlement IN ('late', 'uncharged')
    ) USING (model, nanousd, place)
) AS guess WHERE guess.n = transactions.n"""
"""A charge that names no generation gets a note of a job whose attempt lacks one of its model and amount, one each."""

ROWS = """
SELECT t.at, ifnull(a.key, t.key) AS key, a.number, t.generation, ifnull(nullif(t.model, ''), a.model) AS model,
    ifnull(t.settlement, a.settlement) AS settlement, t.kind, iif(t.kind = 'other', NULL, t.nanousd) AS charged,
    iif(t.n = (SELECT max(n) FROM transactions WHERE generation = t.generation), ifnull(a.named, a.estimated), NULL)
    AS expected, iif(t.kind = 'other', t.nanousd, NULL) AS balance, t.type, ifnull(t.note, a.note) AS note
FROM transactions AS t LEFT JOIN billed AS a ON a.generation = t.generation AND a.is_of_account
UNION ALL
SELECT a.intent_at, a.key, a.number, a.generation, a.model, a.settlement, NULL, NULL, ifnull(a.named, a.estimated),
    NULL, NULL, a.note
FROM billed AS a WHERE NOT a.is_of_account OR a.generation IS NULL OR a.generation NOT IN
    (SELECT generation FROM transactions WHERE generation IS NOT NULL)
UNION ALL
SELECT at, key, NULL, generation, NULL, 'unknown', NULL, NULL, NULL, NULL, NULL, note FROM unclaimed
ORDER BY 1, 4"""
"""A row for each transaction, and for each attempt or logged request without one."""

TALLY = """
SELECT settlement, sum(number) AS number, sum(nanousd) AS nanousd FROM (
    SELECT a.settlement, count(DISTINCT a.id) AS number, ifnull(sum(t.nanousd), 0) AS nanousd
    FROM billed AS a LEFT JOIN transactions AS t ON t.generation = a.generation AND a.is_of_account
    GROUP BY a.settlement
    UNION ALL
    SELECT settlement, count(DISTINCT iif(settlement = 'elsewhere', NULL, ifnull(generation, n))), sum(nanousd)
    FROM transactions WHERE settlement IS NOT NULL GROUP BY settlement
    UNION ALL SELECT 'unknown', count(*), 0 FROM unclaimed HAVING count(*)
) GROUP BY settlement"""

BILL = """
SELECT a.id, a.generation, a.settlement, sum(t.nanousd) AS net
FROM billed AS a JOIN transactions AS t ON t.generation = a.generation
WHERE a.is_of_account AND (a.outcome = 'accepted' OR NOT a.is_current AND (a.lost OR a.outcome = 'absent'))
GROUP BY a.id HAVING net >= 0 AND net IS NOT a.cost"""
"""The attempts whose cost the table has otherwise. One that a job stands at, and whose answer was lost, is adopted."""

OPEN_ITEMS = f"""
SELECT * FROM (
    SELECT a.settlement, a.intent_at AS at, a.key AS id, a.number AS attempt, a.state, a.generation AS generation_id,
        a.model, a.note, sum(t.nanousd) AS charged_usd, ifnull(a.named, a.estimated) AS expected_usd
    FROM billed AS a LEFT JOIN transactions AS t ON t.generation = a.generation
    WHERE a.settlement IN ({OPEN_SETTLEMENTS}) GROUP BY a.id
    UNION ALL
    SELECT settlement, min(at), key, NULL, state, generation, model, note, sum(nanousd), NULL
    FROM transactions WHERE settlement IN ({OPEN_SETTLEMENTS}) GROUP BY ifnull(generation, n)
    UNION ALL SELECT 'unknown', at, key, NULL, state, generation, NULL, note, NULL, NULL FROM unclaimed
) ORDER BY settlement, at"""  # noqa: S608  our own names
