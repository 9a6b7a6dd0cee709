"""The body of a create call: parameters checked against the catalogue, local files found, seeds for the takes."""

import ipaddress
import re
import unicodedata
from collections.abc import Container, Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from batchgen.catalogue import conversion, links, pointers, register, validation
from batchgen.catalogue.links import NOUNS, Link
from batchgen.catalogue.rules import image_fault, schemes
from batchgen.catalogue.validation import Violation
from batchgen.catalogue.wording import suggestion
from batchgen.catalogue.written import Written, plain, trimmed
from batchgen.files.input_file import InputFault
from batchgen.files.media import is_base64
from batchgen.files.spelling import FILE_LINK
from batchgen.manifest import bounds
from batchgen.manifest.entry import Entry
from batchgen.manifest.job_keys import JOB_KEYS, MULTIPLIERS
from batchgen.manifest.nodes import Node

HTTP = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
LINK = re.compile(r"[a-z]+://[^\s/?#]\S*", re.IGNORECASE)
DATA = re.compile(r"data:", re.IGNORECASE)
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,30}://")
PAGE = re.compile(
    r"https?://((drive|docs)\.google\.com/(file/d/|open\?|drive/)|photos\.(google|app\.goo)|(www\.)?dropbox\.com/\S*dl=0"
    r"|1drv\.ms/|onedrive\.live\.com/|[\w-]+\.sharepoint\.com/:|github\.com/[^/]+/[^/]+/blob/"
    r"|((www|share)\.)?(icloud|wetransfer)\.com/|we\.tl/|\w+\.(wikipedia|wikimedia)\.org/wiki/"
    r"|(www\.)?(imgur|unsplash|pexels|flickr|instagram|pinterest)\.com/(?!\S+\.(jpe?g|png|webp|gif)))",
    re.IGNORECASE,
)
"""Links of services that show a file in a page of their own."""
HOST_PART = re.compile(r"[\w-]*\w[\w-]*")
"""A part of a host's name between dots. Other alphabets count as letters."""
OWN_NETWORK = re.compile(r"[^.]+|.+\.(local|lan|internal|localhost|home\.arpa)", re.IGNORECASE)
"""Names that only a network of one's own knows."""
TWO_LINKS = re.compile(r"[,;|](https?://|$)", re.IGNORECASE)
"""How a cell goes on that has several links, as shops and forms export them, or a comma behind the one."""
DAMAGE = re.compile("[\0\ufffd]")
"""Characters that no text has: NUL, and what programs write for a character that they have lost."""
MISREAD = re.compile("â€|ðŸ|Ã[¡-º¼-¿]|Â[\xa0-º¼-¿]|Ð[°-¿]|‚Ä[ôúùìî]|√[©§∂º]")
"""What programs of Windows and of the Mac make of letters in UTF-8 that they read as their own: é is Ã©."""
TEXTS = ("prompt", "negative_prompt")
"""Parameters that are texts for every service, also where the catalogue does not describe its models."""

Params = dict[str, Any]


def complete(entry: Entry, params: Params, extra: Params) -> tuple[Params, tuple[str, ...]]:
    """The parameters as they will be sent, and the JSON pointers of the local files among them.

    What the model would refuse is reported, and so are files that cannot be sent. The parameters in `extra` are sent as
    they are.
    """
    accepted = validation.parameters(entry.model, entry.endpoint) if entry.documented else ()
    if entry.origin and entry.origin.take:
        vary_seed(entry, entry.origin.take, params, accepted)
    if entry.documented:
        params, violations = validation.check_params(entry.model, entry.endpoint, params | extra, JOB_KEYS)
        if entry.jobs.validate:
            for violation in violations:
                parameter = next(iter(pointers.split(violation.pointer)), None)
                if parameter not in extra:
                    report(entry, violation)
            report_useless_nulls(entry, accepted)
    else:
        params = {
            name: value.text if name in TEXTS and type(value) is Written else plain(value)
            for name, value in params.items()
        }
        params |= extra
    # A parameter that the model does not take was reported as such; its file need not exist.
    ignored = {*extra, *(params.keys() - accepted if entry.documented and entry.jobs.validate else ())}
    params, files = with_media_sent(entry, params, ignored)
    if entry.jobs.validate:
        report_texts(entry, params)
    return params, files


def with_media_sent(entry: Entry, params: Params, ignored: Container[str]) -> tuple[Params, tuple[str, ...]]:
    """The parameters with each medium as it is sent, and the JSON pointers of the local files among them."""
    files = []
    for link in links.media({name: value for name, value in params.items() if name not in ignored}):
        sent, is_file = medium_sent(entry, link)
        if is_file:
            files.append(link.pointer)
        if sent != link.value:
            params = deepcopy(params)  # jobs of the same entry share the values
            container, name = pointers.parent_of(params, link.pointer)
            container[name] = sent
    return params, tuple(files)


def report_texts(entry: Entry, params: Params) -> None:
    """Report a prompt that is empty, and texts that have lost a character: such videos would be paid for."""
    if type(prompt := params.get("prompt")) is str and not trimmed(prompt):
        entry.report(entry.at("/prompt"), "`prompt` is empty", "write null where the job has none")
    for name, text in params.items():
        if type(text) is str and (damage := DAMAGE.search(text)):
            hint = "save the file as UTF-8, from the program that has the text whole"
            entry.report(entry.at(f"/{name}"), f"`{name}` is damaged: it holds U+{ord(damage[0]):04X}", hint)
        elif type(text) is str and not text.isascii() and (damage := MISREAD.search(text)):
            hint = "a program has read UTF-8 as another encoding; export the text once more as UTF-8"
            entry.warn(entry.at(f"/{name}"), f"`{name}` looks damaged: it holds {damage[0]}", hint)


def vary_seed(entry: Entry, take: int, params: Params, accepted: tuple[str, ...]) -> None:
    """Give each take a seed of its own, the same in every run, unless it is null or has `{{ take }}` in it."""
    node = entry.fields.get("seed")
    if node is None:
        if "seed" in accepted:
            params["seed"] = take
    elif "seed" in params and not entry.jobs.templates.uses(node, "take"):
        seed = plain(params["seed"])
        if type(seed) is str and conversion.INTEGER.fullmatch(seed):
            seed = int(seed)
        if type(seed) is int:
            params["seed"] = seed + take - 1


def medium_sent(entry: Entry, link: Link) -> tuple[str, bool]:
    """What is sent for a medium, and whether that is the path of a local file, relative to the main manifest.

    Blanks around it are taken away, and what can be mended is mended. A medium that cannot be sent is reported.
    """
    jobs = entry.jobs
    node, medium, value = entry.at(link.pointer), link.medium, trimmed(link.value)
    parameter = pointers.split(link.pointer)[0]
    if HTTP.match(value) or value.startswith(schemes(register.canonical(entry.model), parameter)):
        report_link(entry, node, value)
        return value, False
    is_text = DATA.match(value) is not None or is_base64(value, medium)
    if not is_text and SCHEME.match(value) and not FILE_LINK.match(value):
        entry.report(node, f"{NOUNS[medium]} must be a link (http, https), a data URI or a local path")
        return value, False
    is_rooted = FILE_LINK.match(value) or value.startswith("~/")
    path = value if is_rooted else entry.file.join(value)
    fault, hint = None, ""
    inspected, sent = jobs.inspected(value if is_text else path, medium, is_text)
    if isinstance(inspected, InputFault):
        fault, hint = str(inspected), inspected.hint
    elif medium == "image" and jobs.validate:
        size = inspected.bytes, inspected.width, inspected.height
        fault = image_fault(register.canonical(entry.model), inspected.media_type, *size)
    if fault and (is_text or entry.key not in jobs.sent_keys()):  # the file of a job that was sent may be gone
        entry.report(node, fault, hint)
    elif not fault and medium == "image" and not is_text:
        jobs.images.append((jobs.decoded(sent), entry.key, entry.location(node)))
    return (sent, False) if is_text else (path if fault else sent, True)


def report_link(entry: Entry, node: Node, link: str) -> None:
    """Report a link that cannot be one, and warn of one that does not lead the service to the file."""
    if len(link) > bounds.LINK_CHARS:
        entry.report(node, f"the link has {len(link):,} characters; at most {bounds.LINK_CHARS:,} are allowed")
    elif not LINK.fullmatch(link) or not link.isprintable():
        odd = next((char for char in link if char.isspace() or not char.isprintable()), "")
        name = f": it holds {unicodedata.name(odd, f'U+{ord(odd):04X}').lower()}" if odd else ""
        entry.report(node, f"a link has no spaces and names a host{name}", "such as https://example.com/a.png")
    elif (http := HTTP.match(link)) and not is_usable(http[1]):
        entry.report(node, f"the link has an unusable address: {http[1][:100]}", "such as https://example.com/a.png")
    elif http and is_in_own_network(http[1]):
        hint = "the service fetches it itself: take a link that everybody can open, or a local image"
        entry.warn(node, f"this link leads to a host that only your own network has: {link[:100]}", hint)
    elif TWO_LINKS.search(link):
        entry.warn(
            node, f"this looks like more than one link: {link[:100]}", "write one link, without a comma behind it"
        )
    elif PAGE.match(link):
        hint = "take the link that downloads the file itself"
        entry.warn(node, f"this link leads to a page that shows the file, not to the file: {link[:100]}", hint)


@lru_cache(maxsize=1_000)
def is_usable(address: str) -> bool:
    """Whether an address, which is a host and perhaps a user and a port, can be connected to at all."""
    try:
        parts = urlsplit(f"//{address}")
        host = (parts.hostname or "").removesuffix(".")
        return parts.port != 0 and (":" in host or all(map(HOST_PART.fullmatch, host.split("."))))
    except ValueError:
        return False


@lru_cache(maxsize=1_000)
def is_in_own_network(address: str) -> bool:
    """Whether a usable address is one that only the user's own machine or network can reach."""
    host = (urlsplit(f"//{address}").hostname or "").removesuffix(".")
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return OWN_NETWORK.fullmatch(host) is not None


def report_useless_nulls(entry: Entry, accepted: tuple[str, ...]) -> None:
    """Report a null that drops neither a default nor a parameter: its name is misspelt."""
    for name, node in entry.node.value.items():
        if node.value is None and not (name in JOB_KEYS or name in accepted or name in entry.file.defaults):
            message = f"`{entry.model}` does not take `{name[:100]}`"
            entry.report(entry.key_position(name), message, suggestion(name, (*accepted, *JOB_KEYS)))


def report(entry: Entry, violation: Violation) -> None:
    """Report a violation at the value; at its key where the name itself is wrong."""
    *parents, name = pointers.split(violation.pointer) or [""]
    parameter = parents[0] if parents else name
    hint = violation.hint
    if parameter and parameter not in entry.node.value:
        hint = "; ".join(filter(None, (hint, f"this default applies to the job on line {entry.line}")))
    if not violation.unknown:
        entry.report(entry.at(violation.pointer), violation.message, hint)
    elif parents:
        parent = entry.at(violation.pointer.rpartition("/")[0])
        entry.report(parent.keys.get(name, parent), violation.message, hint)
    else:
        entry.report(entry.key_position(name), violation.message, hint)


def values_in(fields: Mapping[str, Any]) -> int:
    """The number of values at any depth in nodes or in what they were filled with, counted little beyond the bound."""
    number = len(fields)
    waiting = [value for name, value in fields.items() if name not in MULTIPLIERS]
    while waiting and number <= bounds.REQUEST_VALUES:
        value = waiting.pop()
        value = value.value if type(value) is Node else value
        if type(value) is dict:
            waiting += value.values()
            number += len(value)
        elif type(value) is list:
            waiting += value
            number += len(value)
    return number
