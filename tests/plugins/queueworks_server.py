"""Queueworks itself, as far as its plug-in needs it: a server whose generations end at the second poll."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchgen import clock
from batchgen.services.base import Submission
from batchgen.services.registry import plugin


class Queueworks:
    """An `Imitation` (see `batchgen.testing`). `clip` is the file of every generation; each has two."""

    service = "queueworks"
    jobs: Sequence[Mapping[str, Any]] = [
        {"id": name, "model": "shortfilm", "prompt": f"A {name}."} for name in ("lighthouse", "balloon", "harbour")
    ]

    def __init__(self, clip: bytes) -> None:
        self.clip = clip
        self.plugin = plugin(self.service)
        self.base_url = ""
        self.requests: dict[str, dict[str, Any]] = {}
        self.application = Starlette(
            routes=[
                Route("/queue/{model}", self.create, methods=["POST"]),
                Route("/requests/{id}", self.status, methods=["GET"]),
                Route("/requests/{id}", self.cancel, methods=["DELETE"]),
                Route("/history", self.history),
                Route("/files/{name}", self.file),
            ]
        )

    def submission(self, prompt: str) -> Submission:
        return Submission("shortfilm", "", f'{{"model":"shortfilm","prompt":"{prompt}"}}', "")

    def is_create(self, method: str, _path: str) -> bool:
        return method == "POST"

    def accepted(self) -> Sequence[str]:
        return list(self.requests)

    async def create(self, request: Request) -> Response:
        if not request.headers.get("authorization", "").startswith("Key "):
            return JSONResponse({"message": "no key"}, 401)
        body = await request.json()
        if "forbidden" in body["prompt"]:
            error = {"type": "content_policy", "field": "prompt", "message": "this prompt breaks our rules"}
            return JSONResponse({"error": error}, 422)
        number = uuid4().hex
        url = str(request.base_url.replace(path=f"/requests/{number}"))
        model = request.path_params["model"]
        self.requests[number] = {"input": body, "sent_at": clock.utcnow(), "url": url, "model": model, "polls": 0}
        return JSONResponse({"request_id": number, "status_url": url})

    async def status(self, request: Request) -> Response:
        row = self.requests.get(request.path_params["id"])
        if row is None:
            return JSONResponse({"message": "not found"}, 404)
        row["polls"] += 1
        if row["polls"] < 2:
            return JSONResponse({"status": "IN_QUEUE"})
        files = [{"url": str(request.base_url.replace(path=f"/files/{name}.mp4"))} for name in ("wide", "close")]
        return JSONResponse({"status": "ENDED", "files": files, "cost": 0.25})

    async def cancel(self, request: Request) -> Response:
        row = self.requests[request.path_params["id"]]
        return JSONResponse({}, 409 if row["polls"] >= 2 else 200)

    async def history(self, _request: Request) -> Response:
        items = [
            {
                "request_id": number,
                "sent_at": row["sent_at"].isoformat(),
                "status_url": row["url"],
                **{name: row[name] for name in ("model", "input")},
            }
            for number, row in self.requests.items()
        ]
        return JSONResponse({"items": items})

    async def file(self, request: Request) -> Response:
        assert "authorization" not in request.headers, "the key was sent to the host of the files"
        return Response(self.clip, media_type="video/mp4")
