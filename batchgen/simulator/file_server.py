"""The file server: finished videos behind signed URLs, and what goes wrong between it and a client."""

import hmac
import secrets
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from batchgen.simulator.calls import Call, Endpoint, Slow, Truncated
from batchgen.simulator.clips import RenderedClip
from batchgen.simulator.faults import NAMES, Fault
from batchgen.simulator.ledger import Generation

PATH = "/files"
SIGNING_KEY = b"batchgen simulator"  # the same in every process, so that URLs outlive a restart; it protects nothing
CAPTIVE_PORTAL = "<!doctype html><title>Sign in</title><p>Welcome to the hotel. Accept the terms to go online."
OTHER_HOSTS = {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}


def signed_url(request: Request, generation: Generation) -> str:
    """A new URL of the generation's video, under the host name of `request`."""
    nonce = secrets.token_urlsafe(6)
    url = request.url.replace(path=f"{PATH}/{generation.file}", query="")
    return str(url.include_query_params(Nonce=nonce, Signature=_sign(generation.file, nonce)))


def _sign(file: str, nonce: str) -> str:
    return hmac.new(SIGNING_KEY, f"{file}\0{nonce}".encode(errors="replace"), sha256).hexdigest()


async def download(call: Call) -> ASGIApp:
    """`GET` or `HEAD` of a video's signed URL."""
    service, file, query = call.service, call.request.path_params["file"], call.request.query_params
    nonce, signature = query.get("Nonce", ""), query.get("Signature", "")
    generation = service.ledger.generation(file=file)
    if generation is None or not hmac.compare_digest(signature.encode(), _sign(file, nonce).encode()):
        return Response(status_code=403)
    call.record.generation_id, call.record.model = generation.id, generation.model
    if nonce in service.expired_urls:
        return Response(status_code=service.expired_urls[nonce])
    names = [name for name in NAMES["cdn"] if name != "redirect" or "Hop" not in query]
    fault = service.faults.draw("cdn", generation.subject, names)
    if fault and fault.name.startswith("expired_"):
        service.expired_urls[nonce] = fault.status
        return Response(status_code=fault.status)
    if fault and fault.name == "changed_etag":
        service.clips.change(generation)
    clip = await service.clips.clip(generation)
    return _serve_badly(call, clip, fault) if fault else _serve(clip)


def _serve(clip: RenderedClip) -> FileResponse:
    return FileResponse(clip.path, headers={"etag": clip.etag}, media_type="video/mp4", stat_result=clip.stat)


def _serve_badly(call: Call, clip: RenderedClip, fault: Fault) -> ASGIApp:
    url, clips, content = call.request.url, call.service.clips, clip.path.read_bytes()
    match fault.name:
        case "html_200":
            return HTMLResponse(CAPTIVE_PORTAL)
        case "redirect":
            other = url.replace(hostname=OTHER_HOSTS.get(str(url.hostname), "127.0.0.1"))
            return RedirectResponse(other.include_query_params(Hop=1), 302)
        case "no_range":
            return Response(content, headers={"etag": clip.etag}, media_type="video/mp4")
        case "range_416" if "range" in call.request.headers:
            return Response(status_code=416, headers={"content-range": f"bytes */{clip.stat.st_size}"})
        case "wrong_length":
            return _serve(clips.damage(clip, "short", content[: clip.stat.st_size * 19 // 20]))
        case "corrupt":
            frames = content.index(b"mdat") + len(b"mdat")  # the index lies before them, and stays whole
            return _serve(clips.damage(clip, "corrupt", content[:frames].ljust(len(content), b"\0")))
        case "cut":
            return Truncated(_serve(clip), fault, headers_count=False)
        case "slow":
            return Slow(_serve(clip), fault.seconds or 1.0)
    return _serve(clip)


ROUTES = (Route(f"{PATH}/{{file}}", Endpoint("cdn", download, needs_key=False), methods=["GET"]),)
