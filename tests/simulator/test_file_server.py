"""The file server: signed URLs, its faults, and what a download that is resumed needs of Starlette's ranges."""

from __future__ import annotations

import io
from urllib.parse import parse_qs, urlsplit

import av
import httpx2 as httpx
import pytest

from .client import KEY, VERIFY, create, download, finish, ledger, set_faults, simulated, video_url


def frames(content: bytes) -> int:
    with av.open(io.BytesIO(content), "r") as container:
        return sum(1 for _ in container.decode(video=0))


async def test_a_video_is_served_whole_with_its_length_and_a_strong_etag() -> None:
    async with simulated() as client:
        response = await download(await video_url(client))
        assert response.status_code == 200
        assert int(response.headers["content-length"]) == len(response.content)
        assert response.headers["accept-ranges"] == "bytes"
        assert response.headers["content-type"] == "video/mp4"
        assert response.headers["etag"].startswith('"')
        assert frames(response.content) == 20


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [("bytes=0-99", 0, 99), ("bytes=100-", 100, -1), ("bytes=-100", -100, -1), ("bytes=10-99999999", 10, -1)],
)
async def test_a_range_is_served_to_the_byte(header: str, first: int, last: int) -> None:
    async with simulated() as client:
        url = await video_url(client)
        whole = (await download(url)).content
        first, last = first % len(whole), last % len(whole)
        response = await download(url, Range=header)
        assert response.status_code == 206
        assert response.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
        assert response.content == whole[first : last + 1]


async def test_a_range_behind_the_end_is_refused_with_the_length() -> None:
    async with simulated() as client:
        url = await video_url(client)
        size = len((await download(url)).content)
        response = await download(url, Range=f"bytes={size}-")
        assert response.status_code == 416
        assert response.headers["content-range"] == f"bytes */{size}"


async def test_a_range_is_served_only_of_the_file_that_if_range_names() -> None:
    async with simulated() as client:
        url = await video_url(client)
        whole = await download(url)
        assert (await download(url, Range="bytes=9-", If_Range=whole.headers["etag"])).status_code == 206
        assert (await download(url, Range="bytes=9-", If_Range='"another"')).content == whole.content


async def test_head_has_the_length_and_no_body() -> None:
    async with simulated() as client:
        url = await video_url(client)
        response = await client.head(url)
        assert int(response.headers["content-length"]) == len((await download(url)).content)
        assert response.content == b""


@pytest.mark.parametrize("length", [0, 1, 1000, 15_000])
async def test_a_body_that_is_cut_at_a_byte_can_be_resumed_from_there(length: int) -> None:
    async with simulated(faults={"cdn": {"cut": {"bytes": length, "count": 1}}}) as client:
        url = await video_url(client)
        begin = b""
        async with httpx.AsyncClient(trust_env=False, verify=VERIFY) as other, other.stream("GET", url) as response:
            assert response.status_code == 200
            etag = response.headers["etag"]
            with pytest.raises(httpx.RemoteProtocolError):
                async for chunk in response.aiter_raw():
                    begin += chunk
        assert len(begin) == length
        rest = await download(url, Range=f"bytes={length}-", If_Range=etag)
        assert begin + rest.content == (await download(url)).content


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_url_that_expired_stays_expired_and_a_new_one_works(status: int) -> None:
    async with simulated(faults={"cdn": {f"expired_{status}": {"count": 1}}}) as client:
        generation_id = await create(client)
        old = (await finish(client, generation_id))["video"]["url"]
        assert [(await download(old)).status_code for _ in range(2)] == [status, status]
        new = (await finish(client, generation_id))["video"]["url"]
        assert new != old
        assert (await download(new)).status_code == 200


async def test_a_url_that_was_tampered_with_is_refused() -> None:
    async with simulated() as client:
        url, other = await video_url(client), await video_url(client, "b")
        nonce = parse_qs(urlsplit(url).query)["Nonce"][0]
        assert (await download(url.replace(nonce, "another"))).status_code == 403
        assert (await download(url.partition("?")[0])).status_code == 403
        assert (await download(url.replace(urlsplit(url).path, urlsplit(other).path))).status_code == 403


async def test_a_captive_portal_answers_instead_of_the_file_server() -> None:
    async with simulated(faults={"cdn": {"html_200": 1}}) as client:
        response = await download(await video_url(client))
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/html")


async def test_a_changed_file_has_another_etag_from_then_on_and_still_plays() -> None:
    async with simulated() as client:
        generation_id = await create(client)
        url = (await finish(client, generation_id))["video"]["url"]
        before = await download(url)
        await set_faults(client, {"cdn": {"changed_etag": {"count": 1}}})
        first, second = [await download(url, Range="bytes=9-", If_Range=before.headers["etag"]) for _ in range(2)]
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.headers["etag"] == second.headers["etag"] != before.headers["etag"]
        assert frames(first.content) == 20
        video = (await finish(client, generation_id))["video"]
        assert video["file_size"] == len(first.content)


async def test_range_may_be_ignored() -> None:
    async with simulated(faults={"cdn": {"no_range": 1}}) as client:
        response = await download(await video_url(client), Range="bytes=9-")
        assert response.status_code == 200
        assert "accept-ranges" not in response.headers


async def test_a_range_within_the_file_may_be_refused() -> None:
    async with simulated(faults={"cdn": {"range_416": 1}}) as client:
        url = await video_url(client)
        assert (await download(url, Range="bytes=9-")).status_code == 416
        assert (await download(url)).status_code == 200


async def test_a_file_may_be_shorter_than_the_fetch_announced() -> None:
    async with simulated(faults={"cdn": {"wrong_length": {"count": 1}}}) as client:
        video = (await finish(client, await create(client)))["video"]
        assert len((await download(video["url"])).content) < video["file_size"]
        assert len((await download(video["url"])).content) == video["file_size"]


async def test_a_corrupt_file_has_its_length_and_does_not_decode() -> None:
    async with simulated(faults={"cdn": {"corrupt": {"count": 1}}}) as client:
        url = await video_url(client)
        corrupt, sound = await download(url), await download(url)
        assert len(corrupt.content) == len(sound.content)
        with pytest.raises(av.FFmpegError):
            frames(corrupt.content)


async def test_a_slow_body_arrives_whole() -> None:
    async with simulated(faults={"cdn": {"slow": {"seconds": 0.1, "count": 1}}}) as client:
        url = await video_url(client)
        assert (await download(url)).content == (await download(url)).content


async def test_an_api_key_that_reaches_the_file_server_is_in_the_ledger_also_after_a_redirect() -> None:
    async with simulated(faults={"cdn": {"redirect": 1}}) as client:
        url = await video_url(client)
        async with httpx.AsyncClient(trust_env=False, verify=VERIFY) as other:
            redirect = await other.get(url)
            assert redirect.status_code == 302
            assert urlsplit(redirect.headers["location"]).hostname == "localhost"
            assert (await ledger(client))["key_leaks"] == []
            assert (await other.get(url, headers=KEY, follow_redirects=True)).status_code == 200
            assert len((await ledger(client))["key_leaks"]) == 1
            await other.get(redirect.headers["location"], headers=KEY)
        assert len((await ledger(client))["key_leaks"]) == 2
