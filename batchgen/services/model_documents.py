"""Gets the request schemas of models that are newer than the catalogue, from the documents that the service names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from batchgen.catalogue.openapi import ODD_DOCUMENT, request_schemas
from batchgen.services import failures, file_server, http

DOCUMENTS_MAX = 50  # in one refresh: the service adds a few models a month
AT_ONCE = 4  # each may have 16 MB in memory
DOCUMENT_SECONDS = 20.0  # for one whole document; they have some 20 kB

Schemas = Mapping[str, Mapping[str, Any]]
"""Path → JSON Schema of the request body."""


async def fetch_schemas(documents: Mapping[str, str], base_url: str) -> dict[str, Schemas]:
    """The request schemas of models, from the documents at these addresses; a model whose document is odd is left out.

    `base_url` is of the service that named the addresses. Documents may lie on another host, so no key is sent.
    """
    some = list(documents.items())[:DOCUMENTS_MAX]
    async with file_server.client(AT_ONCE) as client:

        async def fetch(model: str, url: str) -> Schemas | None:
            with suppress(TimeoutError, *failures.BAD_ADDRESS, *failures.FAILURES, *ODD_DOCUMENT):
                async with (
                    client.free_connections,
                    asyncio.timeout(DOCUMENT_SECONDS),
                    file_server.open_file(client, url, {}, base_url) as response,
                ):
                    body = await http.read_body(response) if response.status_code == 200 else b""
                return await asyncio.to_thread(lambda: request_schemas(json.loads(body), model))
            return None

        schemas = await asyncio.gather(*(fetch(model, url) for model, url in some))
    return {model: of_paths for (model, _), of_paths in zip(some, schemas, strict=True) if of_paths}
