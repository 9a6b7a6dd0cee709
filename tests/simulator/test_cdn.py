"""The CDN: ranges, signatures, and what goes wrong on the way."""

from __future__ import annotations

import io
from urllib.parse import parse_qs, urlsplit

import av
import httpx2 as httpx
import pytest

from .conversation import KEY, VERIFY, create, download, finish, ledger, simulated, video_url


def frames(content: bytes) -> int:
    with av.open(io.BytesIO(content), "r") as container:
        return sum(1 for _ in container.decode(video=0))


async def test_a_video_is_served_whole_with_its_length_and_a_strong_etag() -> None:
    async with simulated() as client:
        answer = await download(await video_url(client))
        assert answer.status_code == 200
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.headers["etag"].startswith('"')
        assert frames(answer.content) == 20


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, -1),
        ("bytes=-100", -100, -1),
        ("bytes=5-5", 5, 5),
        ("bytes=10-99999999", 10, -1),
        ("bytes=-99999999", 0, -1),
    ],
)
async def test_a_part_is_exactly_the_part_that_was_asked_for(header: str, first: int, last: int) -> None:
    async with simulated() as client:
        url = await video_url(client)
        whole = (await download(url)).content
        first, last = first % len(whole), last % len(whole)
        answer = await download(url, Range=header)
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
        assert answer.content == whole[first : last + 1]


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5"])
async def test_a_range_that_makes_no_sense_is_ignored(header: str) -> None:
    async with simulated() as client:
        assert (await download(await video_url(client), Range=header)).status_code == 200


@pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=-0"])
async def test_a_range_behind_the_end_cannot_be_satisfied(header: str) -> None:
    async with simulated() as client:
        url = await video_url(client)
        size = len((await download(url)).content)
        answer = await download(url, Range=header)
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{size}"


async def test_a_part_is_only_given_of_the_file_that_the_client_began_with() -> None:
    async with simulated() as client:
        url = await video_url(client)
        whole = await download(url)
        assert (await download(url, Range="bytes=9-", If_Range=whole.headers["etag"])).status_code == 206
        assert (await download(url, Range="bytes=9-", If_Range='"another"')).content == whole.content


async def test_a_head_tells_the_length_and_sends_nothing() -> None:
    async with simulated() as client:
        url = await video_url(client)
        answer = await client.head(url)
        assert int(answer.headers["content-length"]) == len((await download(url)).content)
        assert answer.content == b""


@pytest.mark.parametrize("length", [0, 1, 1000, 15_000])
async def test_a_body_is_cut_at_exactly_so_many_bytes_and_can_be_resumed(length: int) -> None:
    async with simulated(faults={"cdn": {"cut": {"bytes": length, "count": 1}}}) as client:
        url = await video_url(client)
        begun = b""
        async with httpx.AsyncClient(trust_env=False, verify=VERIFY) as stranger, stranger.stream("GET", url) as answer:
            assert answer.status_code == 200
            etag = answer.headers["etag"]
            with pytest.raises(httpx.RemoteProtocolError):
                async for chunk in answer.aiter_raw():
                    begun += chunk
        assert len(begun) == length
        rest = await download(url, Range=f"bytes={length}-", If_Range=etag)
        assert begun + rest.content == (await download(url)).content


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_an_address_that_expired_stays_expired_and_a_new_one_is_good(status: int) -> None:
    async with simulated(faults={"cdn": {f"expired_{status}": {"count": 1}}}) as client:
        generation_id = await create(client)
        old = (await finish(client, generation_id))["video"]["url"]
        assert [(await download(old)).status_code for _ in range(2)] == [status, status]
        new = (await finish(client, generation_id))["video"]["url"]
        assert new != old
        assert (await download(new)).status_code == 200


async def test_an_address_is_good_until_its_own_date() -> None:
    async with simulated(url_ttl_seconds=0) as client:
        assert (await download(await video_url(client))).status_code == 403


async def test_an_address_that_was_tampered_with_is_refused() -> None:
    async with simulated() as client:
        url = await video_url(client)
        expires = parse_qs(urlsplit(url).query)["Expires"][0]
        assert (await download(url.replace(expires, "9999999999.000"))).status_code == 403
        assert (await download(url.partition("?")[0])).status_code == 403
        assert (await download(url.replace("_output.mp4", "_other.mp4"))).status_code == 403


async def test_a_captive_portal_answers_in_place_of_the_video() -> None:
    async with simulated(faults={"cdn": {"html_200": 1}}) as client:
        answer = await download(await video_url(client))
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")


async def test_a_file_that_changed_has_another_etag_from_then_on_and_still_plays() -> None:
    async with simulated() as client:
        generation_id = await create(client)
        url = (await finish(client, generation_id))["video"]["url"]
        before = await download(url)
        await client.put("/_simulator/faults", json={"cdn": {"changed_etag": {"count": 1}}})
        after = [await download(url, Range="bytes=9-", If_Range=before.headers["etag"]) for _ in range(2)]
        assert [each.status_code for each in after] == [200, 200]
        assert after[0].headers["etag"] == after[1].headers["etag"] != before.headers["etag"]
        assert frames(after[0].content) == 20
        video = (await finish(client, generation_id))["video"]
        assert video["file_size"] == len(after[0].content)


async def test_a_range_may_be_ignored() -> None:
    async with simulated(faults={"cdn": {"no_range": 1}}) as client:
        answer = await download(await video_url(client), Range="bytes=9-")
        assert answer.status_code == 200
        assert "accept-ranges" not in answer.headers


async def test_a_range_may_be_refused_though_it_lies_within() -> None:
    async with simulated(faults={"cdn": {"range_416": 1}}) as client:
        url = await video_url(client)
        assert (await download(url, Range="bytes=9-")).status_code == 416
        assert (await download(url)).status_code == 200


async def test_a_file_may_be_shorter_than_the_fetch_said() -> None:
    async with simulated(faults={"cdn": {"wrong_length": {"count": 1}}}) as client:
        video = (await finish(client, await create(client)))["video"]
        assert len((await download(video["url"])).content) < video["file_size"]
        assert len((await download(video["url"])).content) == video["file_size"]


async def test_a_corrupt_file_is_as_long_as_it_should_be_and_does_not_decode() -> None:
    async with simulated(faults={"cdn": {"corrupt": {"count": 1}}}) as client:
        url = await video_url(client)
        corrupt, well = await download(url), await download(url)
        assert len(corrupt.content) == len(well.content)
        with pytest.raises(av.FFmpegError):
            frames(corrupt.content)


async def test_a_slow_body_arrives_whole() -> None:
    async with simulated(faults={"cdn": {"slow": {"seconds": 0.1, "count": 1}}}) as client:
        url = await video_url(client)
        assert (await download(url)).content == (await download(url)).content


async def test_a_key_that_reaches_the_cdn_is_found_in_the_ledger_also_behind_a_redirect() -> None:
    async with simulated(faults={"cdn": {"redirect": 1}}) as client:
        url = await video_url(client)
        async with httpx.AsyncClient(trust_env=False, verify=VERIFY) as stranger:
            moved = await stranger.get(url)
            assert moved.status_code == 302
            assert urlsplit(moved.headers["location"]).hostname == "localhost"
            assert (await ledger(client))["key_leaks"] == []
            assert (await stranger.get(url, headers=KEY, follow_redirects=True)).status_code == 200
            assert len((await ledger(client))["key_leaks"]) == 1
            await stranger.get(moved.headers["location"], headers=KEY)
        assert len((await ledger(client))["key_leaks"]) == 2
