"""The data of the review page: one short row a clip, with the texts that clips share stored once.

Whatever comes from a manifest, a service or a file is bounded here. It reaches the page as JSON and is shown as text.
"""

from __future__ import annotations

import json
from collections.abc import Container, Hashable, Iterable, Mapping
from hashlib import sha256
from typing import Any

from batchgen.files.verdicts_file import CLIP_DIGITS
from batchgen.jobs import State, Verdict
from batchgen.jobtable.clips import Clip
from batchgen.services.text import one_line

PROMPT_CHARS = 500  # of a prompt on a card; a clip has 400 bytes of data, and the served page fetches longer ones whole
ERROR_CHARS = 400  # of an error; the longest sentences of batchgen fit
LABEL_CHARS = 200  # of an input image's path or link, a tag, or the detail of a problem
VALUE_CHARS = 80  # of the value of one parameter
PARAMS_MAX = 20  # parameters of a request that are shown; few models take more
TAGS_MAX = 20
WHOLE_CHARS = 2_000_000  # of a request that the served page shows whole on demand
CUT = "…"
STATES = tuple(State)
VERDICTS = ("", *Verdict)

FIELDS = (
    *("row", "id", "state", "model", "prompt", "image", "params", "take"),
    *("clip", "poster", "folder", "name", "width", "height", "length"),
    *("cost", "seconds", "ended", "verdict", "stars", "judged", "error", "tags", "problems", "more"),
)
"""The names of the values in a clip's row, in their order. Empty values at the end of a row are left out.

`row` is the row's id in the table, `clip` names the first delivered file by its content. `folder` and `name` make its
path; a name that is the job's id with `.mp4` is left out. `length` is the file's, in seconds; `seconds` the time that
the generation took. `ended` and `judged` are Unix times. `more` has the paths of further files.
"""


class ClipData:
    """The rows of clips, and the values that they share."""

    def __init__(self, posters: Container[str] | None = None) -> None:
        self.posters = posters
        """The SHA-256 of the files that have one; None for a page that asks for each."""
        self.rows: list[list[Any]] = []
        names = ("model", "prompt", "image", "params", "folder", "error")
        self.shared: dict[str, dict[Hashable, tuple[int, Any]]] = {name: {} for name in names}
        """By value: its number in the order in which they were met, and what is shown of it."""

    def add(self, clip: Clip) -> None:
        values = self.values_of(clip)
        row = [values.get(name) or 0 for name in FIELDS]
        while not row[-1]:
            row.pop()
        self.rows.append(row)

    def number(self, name: str, value: Hashable, most: int | None = None) -> int:
        """The number of a shared value, counted from 1; 0 for an empty one. A text is shown up to `most` characters."""
        shared = self.shared[name]
        if value and value not in shared:
            shown = bounded(value, most) if isinstance(value, str) and most else value
            shared[value] = len(shared) + 1, shown
        return shared[value][0] if value else 0

    def values_of(self, clip: Clip) -> dict[str, Any]:
        request = parsed(clip.request)
        prompt, links, params = parts_of(request, clip.input_pointers)
        values: dict[str, Any] = {
            "row": clip.row_id,
            "id": clip.id,
            "state": STATES.index(clip.state),
            "model": self.number("model", clip.model, LABEL_CHARS),
            "prompt": self.number("prompt", prompt, PROMPT_CHARS),
            "image": self.number("image", " + ".join(links), LABEL_CHARS),
            "params": self.number("params", tuple(params)),
            "take": clip.take,
            "cost": float(clip.cost_usd or 0),
            "ended": round(clip.ended_at.timestamp()) if clip.ended_at else 0,
            "verdict": VERDICTS.index(clip.judgement.verdict or ""),
            "stars": clip.judgement.stars,
            "judged": round(clip.judged_at.timestamp(), 3) if clip.judged_at else 0,
            "error": self.number("error", clip.error or "", ERROR_CHARS),
            "tags": [bounded(tag, LABEL_CHARS) for tag in clip.tags[:TAGS_MAX]],
            "problems": [[at.problem, bounded(at.detail or "", LABEL_CHARS)] for at in clip.problems],
        }
        if clip.finished_at and (sent_at := clip.answered_at or clip.intent_at):
            values["seconds"] = round(max(0.0, (clip.finished_at - sent_at).total_seconds()), 1)
        if clip.files:
            first, *others = clip.files
            folder, _, name = first.path.rpartition("/")
            values |= {
                "clip": first.sha256[:CLIP_DIGITS],
                "poster": int(self.posters is None or first.sha256 in self.posters),
                "folder": self.number("folder", folder),
                "name": "" if name == f"{clip.id}.mp4" else name,
                "width": first.width,
                "height": first.height,
                "length": round(first.seconds or 0, 2),
                "more": [file.path for file in others],
            }
        return values

    def document(self) -> dict[str, Any]:
        shared = {name: [shown for _, shown in values.values()] for name, values in self.shared.items()}
        return {"fields": FIELDS, "states": STATES, "shared": shared, "rows": self.rows}


def parsed(request: str) -> Mapping[str, Any]:
    """The body of a request; an empty one where the table holds no JSON object."""
    try:
        body = json.loads(request)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def parts_of(request: Mapping[str, Any], pointers: Iterable[str]) -> tuple[str, list[str], list[tuple[str, str]]]:
    """The prompt of a request, the files and links it shows the model, and its other parameters."""
    local = {pointer.split("/")[1] for pointer in pointers if pointer.startswith("/")}
    links: list[str] = []
    params: list[tuple[str, str]] = []
    for name, value in request.items():
        if name in ("model", "prompt"):
            continue
        if isinstance(value, int):  # most parameters: the rest is for texts and for what is made of them
            if len(params) < PARAMS_MAX:
                params.append((bounded(name, VALUE_CHARS), str(value).lower()))
            continue
        texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
        if texts and (name in local or all(is_link(text) for text in texts)):
            links += map(link_label, texts)
        elif len(params) < PARAMS_MAX:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            params.append((bounded(name, VALUE_CHARS), bounded(text, VALUE_CHARS)))
    prompt = request.get("prompt", "")
    return prompt if isinstance(prompt, str) else json.dumps(prompt), links, params


def is_link(text: str) -> bool:
    return text.startswith(("http://", "https://", "data:"))


def link_label(text: str) -> str:
    """A link or a path for a person. Images in the request itself are told apart by their content."""
    if not text.startswith("data:"):
        return text
    return f"{text[:40].partition(',')[0]} {sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def bounded(text: str, most: int) -> str:
    """One line of at most `most` characters, without any that would change how the text around it is shown."""
    if len(text) > most:
        return one_line(text, most - 1) + CUT
    return text if text.isprintable() else one_line(text, most)


def whole(clip: Clip) -> dict[str, str]:
    """What a card shows cut, whole: for the served page, on demand."""
    request = parsed(clip.request) if len(clip.request) <= WHOLE_CHARS else {}
    prompt, _, _ = parts_of(request, clip.input_pointers)
    return {"prompt": prompt or clip.request[:WHOLE_CHARS], "error": clip.error or ""}


def as_script(document: Mapping[str, Any]) -> str:
    """JSON that may stand in a `<script>` of a page: nothing in it ends the element or begins a comment."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
