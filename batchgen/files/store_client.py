"""The client of an object store, and what a store refuses, in words for a person and without anything secret.

Credentials come from the environment, and are kept nowhere.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from batchgen.errors import UsageError
from batchgen.files.output_paths import OutputUrl
from batchgen.services.text import one_line

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CONNECT_SECONDS = 5
ANSWER_SECONDS = 20  # for a question about one object
RETRIES = 3  # within a call; the downloader's own tries follow, with longer pauses
RETRY_SECONDS = 20
PROVIDERS = ("AWS_", "AZURE_", "GOOGLE_")
"""Prefixes of the variables that obstore reads: a changed environment needs another client."""
NO_LIBRARY = "outputs in an object store need obstore: pip install 'batchgen[cloud]'"
NO_BOTO3 = "AWS_PROFILE is set, and profiles are read by boto3: pip install boto3, or set AWS_ACCESS_KEY_ID instead"
CAUSE_CHARS = 200  # of the library's own words
SECRETS = re.compile(r"SECRET|TOKEN|ACCESS_KEY|ACCOUNT_KEY|STORAGE_KEY|SAS|PASSWORD|CREDENTIAL", re.IGNORECASE)
"""In the names of variables whose values are never shown."""
QUERY = re.compile(r"\?\S*")
"""The query of an address may hold a signature."""
STATUS = re.compile(r"status code: (\d{3})")
CODE = re.compile(r"<Code>(\w{1,60})</Code>")
MARKUP = re.compile(r"<[?!A-Za-z]")
"""Where the body of an answer begins in the library's words: XML of the store, or a page of what stands before it."""
EXPIRED = ("ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired", "RequestExpired")
"""The codes by which the stores, some of them with status 400, say that the credentials are no longer valid."""
NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
"""The codes by which the stores say that a bucket is not there."""
SYSTEM = re.compile(r"\(os error (\d{1,4})\)")
INCOMPLETE = re.compile(r"Account must be specified|Missing (AccessKeyId|SecretAccessKey)")
TOKEN_HOSTS = ("169.254.", "metadata.google.internal", "token request")
"""Where credentials are looked for last: on a machine of the provider. Elsewhere nothing answers there."""
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


@contextmanager
def errors_of(parts: OutputUrl, *faults: type[Exception]) -> Iterator[None]:
    """Turn what the library raises, and `faults`, into `OSError`s for a person. Any other `FileNotFoundError` passes.

    Raises `UsageError` where the library is not installed.
    """
    try:
        from obstore.exceptions import BaseError
    except ModuleNotFoundError:
        raise UsageError(NO_LIBRARY) from None
    caught: tuple[type[Exception], ...] = (BaseError, NotImplementedError, PermissionError, ValueError, *faults)
    try:
        yield
    except caught as error:
        if isinstance(error, OSError) and error.filename == parts.root:
            raise  # it is for a person already
        raise fault_of_store(error, parts) from None


def client_for(parts: OutputUrl, seconds: int = ANSWER_SECONDS, *, reads: bool = False) -> ObjectStore:
    """A client for the store of a URL, which waits for an answer at most so long. Raises `UsageError`, `StoreError`.

    With `reads`, it waits for each piece of a long answer no longer than for a short one.
    """
    settings = tuple(sorted(item for item in os.environ.items() if item[0].startswith(PROVIDERS)))
    with errors_of(parts):
        return open_client(parts.root, seconds, reads, settings)


@lru_cache(maxsize=16)
def open_client(root: str, seconds: int, reads: bool, _settings: tuple[tuple[str, str], ...]) -> ObjectStore:
    from obstore.store import from_url

    options: dict[str, Any] = {
        "client_options": {
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=seconds),
            "allow_http": any(os.environ.get(f"{name}ALLOW_HTTP", "").lower() in ("true", "1") for name in PROVIDERS),
        },
        "retry_config": {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
    }
    if reads:
        options["client_options"]["read_timeout"] = timedelta(seconds=ANSWER_SECONDS)
    if root.startswith("file:"):
        return from_url("file:///")
    if root.startswith("s3:"):
        options["config"] = {"checksum_algorithm": "sha256"}  # the store compares it with what has arrived
        if os.environ.get("AWS_PROFILE"):
            try:
                from obstore.auth.boto3 import Boto3CredentialProvider
            except ModuleNotFoundError:
                raise UsageError(NO_BOTO3) from None
            options["credential_provider"] = Boto3CredentialProvider()
    return from_url(root, **options)


class StoreError(OSError):
    """A store does not do what it is asked. `strerror` says what a person does, `filename` is the URL of the store.

    Its number says whom it concerns, like one of the disk: `is_all` every file, `is_file` this one; else it may pass.
    """

    def __init__(self, message: str, store: str, *, is_all: bool = False, is_file: bool = False) -> None:
        number = errno.ECONNREFUSED if is_all else errno.EINVAL if is_file else errno.EHOSTUNREACH
        super().__init__(number, message, store)


def fault_of_store(error: Exception, parts: OutputUrl) -> OSError:
    """What the library has raised, as an error for a person."""
    text = str(error).partition("\n\nDebug source")[0]
    status, code = (match[1] if (match := pattern.search(text)) else "" for pattern in (STATUS, CODE))
    if match := SYSTEM.search(text):
        number = int(match[1])
        return OSError(number, os.strerror(number), parts.root)
    fault, is_all = describe_fault(error, parts.scheme, text, status, code)
    return StoreError(fault, parts.root, is_all=is_all)


def is_without_bucket(error: Exception) -> bool:
    """Whether the library says that a bucket is not there."""
    return (match := CODE.search(str(error))) is not None and match[1] in NO_BUCKET


def describe_fault(error: Exception, scheme: str, text: str, status: str, code: str) -> tuple[str, bool]:
    """What a person does about an answer, and whether the next file would meet the same."""
    remark = f" ({' '.join(filter(None, (status, code)))})" if status else ""
    credentials = CREDENTIALS.get(scheme, "")
    if any(host in text for host in TOKEN_HOSTS) or INCOMPLETE.search(text):
        return f"there are no credentials for this store. Set {credentials}", True
    if code in NO_BUCKET or (status == "404" and "PUT" in text):
        return "there is no such bucket. Make it, or correct `output:`", True
    if "redirect without LOCATION" in text or code == "AuthorizationHeaderMalformed":
        return f"the bucket is in another region{remark}. Set AWS_REGION to it", True
    if code in EXPIRED:
        renew = f"Renew them, with their session token: set {credentials}"
        return f"these credentials have expired, or are not valid{remark}. {renew}", True
    if status in ("401", "403"):
        return f"these credentials may not do this{remark}. Check their rights, or set {credentials}", True
    if "builder error" in text or "URL scheme is not allowed" in text:
        return "AWS_ENDPOINT_URL begins with http://. Set AWS_ALLOW_HTTP=true to allow that", True
    if status == "400" and "performing HEAD" in text:  # whose answer has no body, and so no code
        return f"the store refuses{remark} without a reason. Renew the credentials if they expire: {credentials}", True
    if isinstance(error, NotImplementedError) or status in ("400", "501"):
        return f"the store does not support what is needed{remark}: {cause(text)}", True
    return f"the store does not answer{remark}: {cause(text)}", False


def cause(text: str) -> str:
    """The library's words and the store's message, in one line, without queries and the values of secret variables."""
    text = text.partition(" - ")[2] or text
    if markup := MARKUP.search(text):
        text = f"{text[: markup.start()]}{message_of(text[markup.start() :])}".rstrip(": \n")
    text = QUERY.sub("", text)
    for name, value in os.environ.items():
        if value and SECRETS.search(name):
            text = text.replace(value, "***")
    return one_line(text, CAUSE_CHARS)


def message_of(xml: str) -> str:
    """What a store says for a person in the body of an answer; "" where it cannot be read."""
    try:
        message = ElementTree.fromstring(xml.strip()).findtext("Message")  # noqa: S314 - Expat bounds what it expands
    except ElementTree.ParseError:
        return ""
    return (message or "").strip(" .\n")
