"""Requests to one API with one key: every failure of a create or of a question becomes an outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from batchgen import clock
from batchgen.services import answers, failures, http
from batchgen.services.base import AT_ONCE
from batchgen.services.outcomes import Blocked, NoAnswer, NotSent, Trouble, Unavailable, Unknown
from batchgen.services.text import without_key

LOG = logging.getLogger("batchgen.http")
KEPT_CONNECTIONS = 8  # for questions: the library looks at each that is idle before and after every request


class ApiClient:
    """Sends to the API at `base_url`, with `Authorization: <scheme> <key>`. Safe to use concurrently.

    No request, with or without the key, goes to another origin, whatever a handle or a row of the job table says.

    Raises `UsageError` where the environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, base_url: str, api_key: str, *, scheme: str = "Bearer") -> None:
        self.base_url = base_url.rstrip("/")
        self.clock_offset = timedelta(0)
        """How far the service's clock is ahead of this machine's, by the last answer."""
        self._api_key, self._scheme = api_key, scheme
        self._creates = http.new_client(AT_ONCE)  # for each a new connection: a kept one may be half dead
        self._questions = http.new_client(AT_ONCE, kept=KEPT_CONNECTIONS)

    async def close(self) -> None:
        await self._creates.aclose()
        await self._questions.aclose()

    async def create(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> http.Answer | NotSent | Unknown | Blocked:
        """Send one paid request, once, as JSON. The answer, or what is proven by its absence."""
        # A large body on a slow line is no reason to give up a create.
        seconds = http.SUBMIT_SECONDS + len(body) / http.UPLOAD_BYTES_PER_SECOND
        try:
            headers = {"Content-Type": "application/json", **(headers or {})}
            return await self._exchange(self._creates, "POST", path, headers, seconds, body)
        except failures.BAD_ADDRESS as error:
            reason = failures.describe(error, self._api_key)
            return Blocked(Trouble.ADDRESS, f"{self.base_url} is not a valid address: {reason}")
        except failures.NOT_SENT as error:
            return NotSent(failures.describe(error, self._api_key))
        except failures.FAILURES as error:
            return Unknown(failures.describe(error, self._api_key))

    async def ask(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        with_key: bool = True,
        seconds: float | None = None,
    ) -> http.Answer | Unavailable:
        """Send a question, which costs nothing and may be repeated. A list in `params` repeats its parameter.

        It may take `seconds`, or `http.QUESTION_SECONDS`.
        """
        seconds = http.QUESTION_SECONDS if seconds is None else seconds
        path = f"{path}?{urlencode(params, doseq=True)}" if params else path
        try:
            return await self._exchange(self._questions, method, path, headers, seconds, with_key=with_key)
        except failures.BAD_ADDRESS as error:
            return Unavailable(failures.describe(error, self._api_key), Trouble.ADDRESS)
        except failures.FAILURES as error:
            return Unavailable(failures.describe(error, self._api_key))

    async def ask_json(
        self, path: str, params: Mapping[str, Any], *, with_key: bool = True, read_float: Callable[[str], Any] = float
    ) -> dict[str, Any] | NoAnswer:
        """The JSON object of a whole answer; or what another answer says."""
        answer = await self.ask(path, params, with_key=with_key)
        if isinstance(answer, Unavailable):
            return answer
        if not answer.is_whole:
            return answers.read_unavailable(answer)
        if with_key and answer.headers.get("age", "0") != "0":  # a log of an hour ago would prove an absence
            return Unavailable("the answer comes from a cache, and may be out of date", http_status=answer.status)
        document = answers.json_object(answer, read_float)
        nothing = f"{answer.status}, but no JSON object: {answers.excerpt(answer) or 'empty'}"
        return document or Unavailable(nothing, http_status=answer.status)

    async def _exchange(
        self,
        client: http.Client,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        seconds: float,
        body: bytes | None = None,
        *,
        with_key: bool = True,
    ) -> http.Answer:
        """`path` begins at the base URL, or is a whole URL. The time begins once the client has a free connection."""
        url = path if "://" in path else self.base_url + path
        if http.destination_of(url) != http.destination_of(self.base_url):
            raise failures.OtherOrigin(f"{url} is not at {self.base_url}, and the key goes nowhere else")
        api_key = self._api_key if with_key else ""
        headers = {**(headers or {}), "Authorization": f"{self._scheme} {api_key}"} if api_key else headers
        progress = http.RequestProgress()
        async with (
            progress.classifying(),
            client.free_connections,
            asyncio.timeout(seconds),
            client.stream(method, url, headers=headers, content=body, extensions={"trace": progress}) as response,
        ):
            answer = await http.read_answer(response, api_key)
        LOG.debug(f"http.{answer.status}", extra={"method": method, "url": without_key(url, api_key)})
        if "age" not in answer.headers:  # the Date of an answer from a cache is that of its making
            self.clock_offset = answers.clock_offset(answer, clock.utcnow())
        return answer
