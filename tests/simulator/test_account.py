"""The service's log of creates, the balance and the charges."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx2 as httpx
import pytest

from batchgen.clock import utcnow
from batchgen.simulator.service import AccountLimits

from .client import UNIVERSAL, body, create, fetch, finish, simulated


async def log(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    response = await client.get("/v2/logs", params=query)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


async def charges(client: httpx.AsyncClient, **query: str) -> dict[str, Any]:
    response = await client.get("/v2/billing/transactions", params=query)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


async def test_a_row_of_the_log_has_the_generation_that_a_request_became() -> None:
    async with simulated() as client:
        response = await client.post(UNIVERSAL, json=body(), headers={"X-Client-Request-Id": "r-1"})
        (row,) = (await log(client))["data"]
        assert row["client_request_id"] == "r-1"
        assert row["inference_id"] == response.json()["id"]
        assert row["status"] == "succeeded"
        assert row["model"] == body()["model"]
        assert row["cost"] == {"usd": 0.2941, "credits": 588_200}
        assert row["created"].endswith("Z")


async def test_refused_creates_are_in_the_log_as_failed_but_not_those_without_a_key() -> None:
    async with simulated() as client:
        await client.post(UNIVERSAL, json={"model": "x-t2v"}, headers={"X-Client-Request-Id": "bad"})
        await client.post(UNIVERSAL, json=body(), headers={"Authorization": "no"})
        (row,) = (await log(client))["data"]
        assert (row["client_request_id"], row["status"]) == ("bad", "failed")
        assert row["cost"]["credits"] == 0


async def test_a_refused_create_has_an_inference_id_that_leads_to_no_generation() -> None:
    async with simulated() as client:
        refused = await client.post(UNIVERSAL, json={"model": "x-t2v"})
        (row,) = (await log(client))["data"]
        assert row["inference_id"] == refused.headers["x-inference-id"]
        assert (await fetch(client, row["inference_id"])).status_code == 404


async def test_log_and_charges_are_those_of_the_asking_key() -> None:
    async with simulated() as client:
        await finish(client, await create(client))
        assert (len((await log(client))["data"]), len((await charges(client))["data"])) == (1, 1)
        client.headers["Authorization"] = "Bearer another-key"
        assert ((await log(client))["data"], (await charges(client))["data"]) == ([], [])


async def test_an_accepted_create_without_an_answer_is_in_the_log() -> None:
    async with simulated(faults={"create": {"accept_then_drop": 1}}) as client:
        with pytest.raises(httpx.TransportError):
            await client.post(UNIVERSAL, json=body(), headers={"X-Client-Request-Id": "lost"})
        (row,) = (await log(client))["data"]
        assert row["client_request_id"] == "lost"
        assert (await fetch(client, row["inference_id"])).status_code == 200


async def test_pages_of_the_log_come_newest_first_and_say_whether_there_are_more() -> None:
    async with simulated() as client:
        ids = [await create(client, prompt=f"{number}") for number in range(7)]
        logged: list[str] = []
        has_more = True
        while has_more:
            page = await log(client, limit=3, offset=len(logged))
            assert (page["pagination"]["limit"], page["pagination"]["total"]) == (3, 7)
            logged += [row["inference_id"] for row in page["data"]]
            has_more = page["pagination"]["has_more"]
        assert logged == ids[::-1]


@pytest.mark.parametrize(
    "settings",
    [{"speed": 1}, {"faults": {"log": {"lag": {"seconds": 1e10}}}}, {"faults": {"log": {"missing": 1}}}],
    ids=["always late", "later by a fault", "missing by a fault"],
)
async def test_a_row_of_the_log_is_late_or_missing(settings: dict[str, Any]) -> None:
    async with simulated(**settings) as client:
        await create(client)
        assert (await log(client))["data"] == []


async def test_the_log_is_of_the_time_between_two_moments() -> None:
    async with simulated() as client:
        await create(client)
        before, after = ((utcnow() + hours).isoformat() for hours in (timedelta(hours=-1), timedelta(hours=1)))
        totals = [
            (await log(client, **query))["pagination"]["total"]
            for query in (
                {"start": before, "end": after},
                {"start": before, "end": before.replace("+00:00", "Z")},
                {"start": after, "end": after},
                {},
            )
        ]
        assert totals == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("path", "query", "parameter"),
    [
        ("/v2/logs", {"limit": 0}, "limit"),
        ("/v2/logs", {"limit": 101}, "limit"),
        ("/v2/logs", {"limit": "many"}, "limit"),
        ("/v2/logs", {"offset": -1}, "offset"),
        ("/v2/logs", {"start": "yesterday"}, "start"),
        ("/v2/logs", {"start": "2026-01-01T00:00:00Z", "end": "2026-06-01T00:00:00Z"}, "start"),
        ("/v2/logs", {"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, "end"),
        ("/v2/logs", {"status": "failed"}, "status"),
        ("/models/metrics", {"aliases": [f"model-{number}" for number in range(101)]}, "aliases"),
        ("/models/metrics", {"models": "any"}, "models"),
        ("/v2/billing/transactions", {"cursor": "?"}, "cursor"),
        ("/v2/billing/transactions", {"cursor": "3.0123456789abcdef"}, "cursor"),
        ("/v2/billing/transactions", {"page": "2"}, "page"),
        ("/v2/billing/transactions", {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "to"),
    ],
)
async def test_a_wrong_query_is_refused_by_the_name_of_its_parameter(
    path: str, query: dict[str, Any], parameter: str
) -> None:
    async with simulated() as client:
        response = await client.get(path, params=query)
        assert response.status_code == 400
        assert response.json()["message"].startswith(f"{parameter}: ")


async def test_the_log_has_a_rate_limit_of_its_own() -> None:
    async with simulated(speed=1, limits=AccountLimits(log_requests_per_minute=2)) as client:
        responses = [await client.get("/v2/logs") for _ in range(3)]
        assert [response.status_code for response in responses] == [200, 200, 429]
        assert "retry-after" in responses[-1].headers
        assert (await client.get("/v2/billing")).status_code == 200


@pytest.mark.parametrize("fault", ["500", "429"])
async def test_the_log_fails_and_then_answers(fault: str) -> None:
    async with simulated(faults={"log": {fault: {"count": 1}}}) as client:
        assert (await client.get("/v2/logs")).status_code == int(fault)
        assert (await client.get("/v2/logs")).status_code == 200


async def test_a_generation_in_progress_is_not_charged() -> None:
    async with simulated(speed=1, limits=AccountLimits(balance_usd=Decimal(10))) as client:
        await create(client)
        assert (await client.get("/v2/billing")).json() == {"current_balance": 10.0, "currency": "USD"}
        assert (await charges(client))["data"] == []


async def test_a_completed_generation_is_charged() -> None:
    async with simulated(limits=AccountLimits(balance_usd=Decimal(10))) as client:
        generation_id = await create(client)
        await finish(client, generation_id)
        assert (await client.get("/v2/billing")).json()["current_balance"] == 9.7059
        (charge,) = (await charges(client))["data"]
        assert (charge["reference_id"], charge["type"]) == (generation_id, "MODEL_USAGE")
        assert charge["amount"] == {"usd": 0.2941, "credits": 588_200}


async def test_charges_are_paged_by_cursor_and_each_is_listed_once() -> None:
    async with simulated() as client:
        ids = [await create(client, prompt=f"{number}") for number in range(7)]
        for generation_id in ids:
            await finish(client, generation_id)
        listed: list[str] = []
        page = await charges(client, limit="3")
        while cursor := page["pagination"]["next_cursor"]:
            listed += [row["reference_id"] for row in page["data"]]
            page = await charges(client, limit="3", cursor=cursor)
        assert sorted(listed + [row["reference_id"] for row in page["data"]]) == sorted(ids)
