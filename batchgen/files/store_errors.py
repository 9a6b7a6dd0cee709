"""What an object store refuses, in words for a person, and without anything secret."""

from __future__ import annotations

import errno
import os
import re
from xml.etree import ElementTree

from batchgen.files.output_urls import OutputUrl
from batchgen.services.text import one_line

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


class StoreError(OSError):
    """A store does not do what it is asked. `strerror` is for a person, `filename` is the URL of the store.

    Its number says whom it concerns, like one of the disk: `is_all` every file, `is_file` this one; else it may pass.
    """

    def __init__(self, message: str, store: str, *, is_all: bool = False, is_file: bool = False) -> None:
        number = errno.EACCES if is_all else errno.EINVAL if is_file else errno.EHOSTUNREACH
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
