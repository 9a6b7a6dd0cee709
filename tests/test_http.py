"""The requests' way to the service: proxies that the environment names, and redirects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from batchgen.services import http
from batchgen.services.aimlapi import AimlApi
from batchgen.services.base import NotSent, Submission
from tests.wire import Request, answer, serving

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    http.proxy_for.cache_clear()
    yield
    http.proxy_for.cache_clear()


@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
async def test_a_request_goes_through_the_proxy_that_the_environment_names(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(lambda _request: answer(200, {"current_balance": 7})) as proxy:
        monkeypatch.setenv(name, proxy.base_url.removeprefix("http://"))
        service = AimlApi("http://service.invalid", "key")
        assert str(await service.balance()) == "7"
        await service.close()
    assert [request.target for request in proxy.requests] == ["http://service.invalid/v2/billing"]


async def test_a_host_that_needs_no_proxy_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with serving(lambda _request: answer(200, {"current_balance": 7})) as wire:
        service = AimlApi(wire.base_url, "key")
        assert str(await service.balance()) == "7"
        await service.close()


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "gopher://127.0.0.1:9"])
async def test_a_proxy_that_cannot_be_used_proves_that_nothing_was_sent(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    service = AimlApi("http://service.invalid", "key")
    outcome = await service.submit(Submission("/v2/video/generations", b"{}", "batchgen-1"))
    assert isinstance(outcome, NotSent), outcome
    await service.close()


async def test_a_download_is_followed_to_where_it_lies_and_not_in_a_circle() -> None:
    def by_path(request: Request) -> bytes:
        where = {"/a": "/b", "/b": "/c", "/round": "/round"}.get(request.path)
        return answer(302, b"", {"Location": where}) if where else answer(200, b"the file")

    async with serving(by_path) as wire:
        lines = http.download_lines(1)
        async with lines.stream("GET", wire.base_url + "/a", {"Range": "bytes=1-"}) as response:
            assert await response.aread() == b"the file"
        assert {request.headers["range"] for request in wire.requests} == {"bytes=1-"}
        with pytest.raises(http.FAILURES, match="address to address"):
            async with lines.stream("GET", wire.base_url + "/round"):
                pass
        await lines.close()
