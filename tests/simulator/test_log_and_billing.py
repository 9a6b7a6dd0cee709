"""The service's log and its bill."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx2 as httpx
import pytest

from batchgen.clock import utcnow
from batchgen.simulator import AccountLimits

from .conversation import UNIVERSAL, body, create, fetch, finish, simulated


async def log(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/v2/logs", params=query)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_a_row_tells_which_generation_a_request_became() -> None:
    async with simulated() as client:
        answer = await client.post(UNIVERSAL, json=body(), headers={"X-Client-Request-Id": "r-1"})
        (row,) = (await log(client))["data"]
        assert row["client_request_id"] == "r-1"
        assert row["inference_id"] == answer.json()["id"]
        assert row["status"] == "succeeded"
        assert row["model"] == body()["model"]
        assert row["cost"] == {"usd": 0.2941, "credits": 588_200}
        assert row["created"].endswith("Z")


async def test_refused_requests_are_in_the_log_as_failed_but_not_those_without_a_key() -> None:
    async with simulated() as client:
        await client.post(UNIVERSAL, json={"model": "x-t2v"}, headers={"X-Client-Request-Id": "bad"})
        await client.post(UNIVERSAL, json=body(), headers={"Authorization": "no"})
        (row,) = (await log(client))["data"]
        assert (row["client_request_id"], row["status"], row["inference_id"]) == ("bad", "failed", None)
        assert row["cost"]["credits"] == 0


async def test_a_cut_create_is_in_the_log() -> None:
    async with simulated(faults={"create": {"accept_then_drop": 1}}) as client:
        with pytest.raises(httpx.TransportError):
            await client.post(UNIVERSAL, json=body(), headers={"X-Client-Request-Id": "lost"})
        (row,) = (await log(client))["data"]
        assert row["client_request_id"] == "lost"
        assert (await fetch(client, row["inference_id"])).status_code == 200


async def test_pages_come_newest_first_and_say_whether_there_is_more() -> None:
    async with simulated() as client:
        ids = [await create(client, prompt=f"{at}") for at in range(7)]
        seen: list[str] = []
        while True:
            page = await log(client, limit=3, offset=len(seen))
            seen += [row["inference_id"] for row in page["data"]]
            assert page["pagination"] | {"has_more": None, "offset": None} == {
                "limit": 3,
                "offset": None,
                "total": 7,
                "has_more": None,
            }
            if not page["pagination"]["has_more"]:
                break
        assert seen == ids[::-1]


async def test_rows_are_late_and_a_fault_makes_them_later_or_lost() -> None:
    async with simulated(speed=1) as client:
        await create(client)
        assert (await log(client))["data"] == []
    for fault in ({"lag": {"seconds": 1e12}}, {"missing": 1}):
        async with simulated(faults={"log": fault}) as client:
            await create(client)
            assert (await log(client))["data"] == []


async def test_a_window_a_model_and_a_status_narrow_the_log() -> None:
    async with simulated() as client:
        await create(client, prompt="a")
        await create(client, prompt="b", model="klingai/v2.1-master-image-to-video")
        await client.post(UNIVERSAL, json={})
        now = utcnow()

        async def count(**query: Any) -> int:
            total: int = (await log(client, **query))["pagination"]["total"]
            return total

        later, sooner = (now + timedelta(hours=1)).isoformat(), (now - timedelta(hours=1)).isoformat()
        assert await count(start=sooner, end=later) == 3
        assert await count(start=later, end=later) == 0
        assert await count(start=sooner, end=sooner.replace("+00:00", "Z")) == 0
        assert await count(period="1h") == 3
        assert await count(model="klingai/v2.1-master-image-to-video") == 1
        assert await count(status="failed") == 1
        assert await count(status=["failed", "succeeded"]) == 3


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"offset": -1}, "offset"),
        ({"status": "failed,succeeded"}, "status"),
        ({"period": "a while"}, "period"),
        ({"start": "yesterday"}, "start"),
        ({"start": "2026-01-01T00:00:00Z", "end": "2026-06-01T00:00:00Z"}, "start"),
        ({"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, "end"),
    ],
)
async def test_a_query_that_is_wrong_is_refused_by_name(query: dict[str, Any], named: str) -> None:
    async with simulated() as client:
        answer = await client.get("/v2/logs", params=query)
        assert answer.status_code == 400
        assert answer.json()["message"].startswith(f"{named}: ")


async def test_the_log_has_a_rate_of_its_own() -> None:
    async with simulated(speed=1, limits=AccountLimits(log_requests_per_minute=2)) as client:
        answers = [await client.get("/v2/logs") for _ in range(3)]
        assert [each.status_code for each in answers] == [200, 200, 429]
        assert "retry-after" in answers[-1].headers
        assert (await client.get("/v2/billing")).status_code == 200


@pytest.mark.parametrize("name", ["500", "429"])
async def test_the_log_fails_and_then_answers(name: str) -> None:
    async with simulated(faults={"log": {name: {"count": 1}}}) as client:
        assert (await client.get("/v2/logs")).status_code == int(name)
        assert (await client.get("/v2/logs")).status_code == 200


async def test_only_completed_generations_are_charged() -> None:
    async with simulated(speed=1, limits=AccountLimits(balance_usd=Decimal(10))) as client:
        await create(client)
        assert (await client.get("/v2/billing")).json() == {"current_balance": 10.0, "currency": "USD"}
        rows = (await client.get("/v2/billing/transactions")).json()["data"]
        assert [row["direction"] for row in rows] == ["TOPUP"]
    async with simulated(limits=AccountLimits(balance_usd=Decimal(10))) as client:
        generation_id = await create(client)
        await finish(client, generation_id)
        assert (await client.get("/v2/billing")).json()["current_balance"] == 9.7059
        newest = (await client.get("/v2/billing/transactions")).json()["data"][0]
        assert newest["reference_id"] == generation_id
        assert (newest["direction"], newest["type"]) == ("CHARGE", "MODEL_USAGE")
        assert newest["amount"] == {"usd": 0.2941, "credits": 588_200}


async def test_transactions_are_paged_by_cursor_and_none_is_told_twice() -> None:
    async with simulated() as client:
        ids = [await create(client, prompt=f"{at}") for at in range(7)]
        for each in ids:
            await finish(client, each)
        seen, cursor = [], None
        while True:
            query: dict[str, str] = {"limit": "3", "direction": "CHARGE"} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/v2/billing/transactions", params=query)).json()
            seen += [row["reference_id"] for row in page["data"]]
            cursor = page["pagination"]["next_cursor"]
            if cursor is None:
                break
        assert sorted(seen) == sorted(ids)
        assert (await client.get("/v2/billing/transactions", params={"cursor": "?"})).status_code == 400
