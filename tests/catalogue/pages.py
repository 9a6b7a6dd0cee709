"""Check the request examples of the service's documentation: `python -m tests.catalogue.pages FOLDER`.

FOLDER has the pages as Markdown, with examples in Python and JavaScript. Each example that names a model becomes the
one job of a manifest, which is read as `batchgen check` reads it, on the universal path or else on the older one. What
is refused is printed with the reason. A placeholder such as <YOUR_VIDEO_URL> counts as an address.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from batchgen.errors import ManifestInvalid
from batchgen.manifest import reader

BODY = re.compile(r"(?:data|payload|body|json)\s*[:=]\s*(?:JSON\.stringify\()?(?=\{)")
LONG_TEXTS = re.compile(r"(?<=[:\[,])\s*(?:'''(.*?)'''|`([^`]*)`)", re.DOTALL)
STRING = r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
STRINGS_OR_COMMENTS = re.compile(STRING + r"|(?://|#)[^\n]*")
STRINGS_OR_BRACES = re.compile(STRINGS_OR_COMMENTS.pattern + r"|[{}]")
PLACEHOLDERS = re.compile(r'"<[^">]*URL[^">]*>"|(?<=[\[,:\s])ref_img_url\d(?=[\],\s])')
BARE_NAMES = re.compile(r"(^\s*|\{\s*)([A-Za-z_]\w*)\s*:", re.MULTILINE)
ADDRESS = '"https://example.com/file"'


def bodies(page: str) -> Iterator[str]:
    """The text of each object in a page that is the body of a request, from brace to brace."""
    page = LONG_TEXTS.sub(lambda match: " " + json.dumps(" ".join((match[1] or match[2] or "").split())), page)
    for start in BODY.finditer(page):
        depth = 0
        for brace in STRINGS_OR_BRACES.finditer(page, start.end()):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if not depth:
                yield page[start.end() : brace.end()]
                break


def parse(body: str) -> Any:
    """The object as Python or JavaScript writes it; None where it is neither."""
    body = PLACEHOLDERS.sub(ADDRESS, STRINGS_OR_COMMENTS.sub(lambda match: match[1] or "", body))
    for text in (body, BARE_NAMES.sub(r'\1"\2":', body)):
        with suppress(ValueError):
            return json.loads(text)
        with suppress(ValueError, SyntaxError):
            return ast.literal_eval(re.sub(r"\btrue\b", "True", re.sub(r"\bfalse\b", "False", text)))
    return None


def faults(request: dict[str, Any], path: Path) -> list[str]:
    """What `check` says against a request; nothing where it takes it on one of the model's paths."""
    messages: list[str] = []
    for endpoint in ("universal", "legacy"):
        job = {"id": "example", **request}
        path.write_text(json.dumps({"service": {"name": "aimlapi", "endpoint": endpoint}, "jobs": [job]}), "utf-8")
        try:
            reader.read(path)
        except ManifestInvalid as error:
            messages = messages or [problem.message for problem in error.problems]
        else:
            return []
    return messages


def main() -> int:
    """Returns the exit code: 1 where FOLDER has no examples."""
    parser = argparse.ArgumentParser(prog="python -m tests.catalogue.pages", description=__doc__)
    parser.add_argument("folder", type=Path)
    requests, unread = [], 0
    for page in sorted(parser.parse_args().folder.rglob("*.md")):
        for body in bodies(page.read_text("utf-8", "replace")):
            if re.search(r"\bmodel\b", body):
                request = parse(body)
                requests += [(page.name, request)] if isinstance(request, dict) else []
                unread += not isinstance(request, dict)
    with tempfile.TemporaryDirectory() as folder:
        refused = [
            (name, request.get("model"), messages)
            for name, request in requests
            if (messages := faults(request, Path(folder) / "example.yaml"))
        ]
    for name, model, messages in refused:
        print(f"{name}: {model}: {'; '.join(messages)}")
    taken = len(requests) - len(refused)
    print(f"{len(requests)} examples: {taken} pass, {len(refused)} are refused; {unread} cannot be parsed")
    return 0 if requests else 1


if __name__ == "__main__":
    sys.exit(main())
