"""The account: one pair of key and address from one source, and an address that every library reads in the same way."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import batchgen
from batchgen.cli.models import stored_prices
from batchgen.errors import AccountError, BatchgenError, UsageError
from batchgen.services.account import Account, Variables, origin_of, read_account, read_public_account
from tests.batches import write_manifest
from tests.wire import answer, serving

pytestmark = pytest.mark.hostile(
    "an address or a key from a folder that somebody else wrote", "an error that says what to set; the key stays"
)

HOME = "https://api.service.example"
ELSEWHERE = "https://evil.example"
VARIABLES = Variables("SERVICE_KEY", "SERVICE_URL", HOME)
KEY, OTHER_KEY = "key-of-the-environment", "key-of-the-file"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVICE_KEY", "SERVICE_URL", "BATCHGEN_ALLOW_HTTP"):
        monkeypatch.delenv(name, raising=False)


UNREAD = {
    "nothing": ("no.txt", KEY, r"/\.env\.\n"),
    "an editor's ending": (
        ".env.txt",
        f"SERVICE_KEY={KEY}",
        r"/\.env: \.env\.txt, which lies there, is not read under",
    ),
    "the key alone": (".env", KEY, r"/\.env, which is there and gives SERVICE_KEY no value\.\n"),
    "a similar name": (
        ".env",
        f"SERVICE_API_KEY={KEY}",
        r"/\.env: SERVICE_API_KEY, which is there, is not read under this name\.\n",
    ),
    "another name": (".env", f"KEY={KEY}", r"/\.env, which is there and gives SERVICE_KEY no value\.\n"),
}


@pytest.mark.parametrize(("name", "content", "message"), UNREAD.values(), ids=UNREAD)
def test_a_file_that_gives_no_key_is_named_and_not_shown(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(AccountError, match=message) as raised:
        read_account(VARIABLES, tmp_path)
    assert KEY not in str(raised.value)


def settings(key: str = "", url: str = "") -> dict[str, str]:
    return {name: value for name, value in {"SERVICE_KEY": key, "SERVICE_URL": url}.items() if value}


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch, shell: dict[str, str], file: dict[str, str]) -> None:
    for name, value in shell.items():
        monkeypatch.setenv(name, value)
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in file.items()))


PAIRS: list[tuple[str, dict[str, str], dict[str, str], tuple[str, str] | None]] = [
    # what, the environment, the .env, the pair (None: an error)
    ("a key of the environment goes to the default address", settings(KEY), {}, (HOME, KEY)),
    ("a key of the file goes to the default address", {}, settings(KEY), (HOME, KEY)),
    ("a pair of the environment", settings(KEY, ELSEWHERE), {}, (ELSEWHERE, KEY)),
    ("a pair of the file", {}, settings(KEY, ELSEWHERE), (ELSEWHERE, KEY)),
    ("a pair of the environment is used before the file's", settings(KEY, HOME), settings("x", ELSEWHERE), (HOME, KEY)),
    ("an address of the file never gets the environment's key", settings(KEY), settings("", ELSEWHERE), None),
    ("not even where the file has a key too", settings(KEY), settings(OTHER_KEY, ELSEWHERE), None),
    ("an address of the environment never gets the file's key", settings("", ELSEWHERE), settings(KEY), None),
    ("an address that both name is one address", settings(KEY), settings("", f"{HOME}:443/"), (HOME, KEY)),
    ("a key in the environment is used before the file's", settings(KEY), settings(OTHER_KEY), (HOME, KEY)),
    ("without a key there is no pair", settings("", HOME), settings("", HOME), None),
]


@pytest.mark.parametrize(("shell", "file", "pair"), [row[1:] for row in PAIRS], ids=[row[0] for row in PAIRS])
def test_key_and_address_come_from_one_source(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shell: dict[str, str],
    file: dict[str, str],
    pair: tuple[str, str] | None,
) -> None:
    prepare(tmp_path, monkeypatch, shell, file)
    if pair:
        assert read_account(VARIABLES, tmp_path) == Account(*pair)
        assert read_public_account(VARIABLES, tmp_path) == Account(pair[0])
        return
    with pytest.raises(BatchgenError) as raised:
        read_account(VARIABLES, tmp_path)
    assert KEY not in str(raised.value)
    assert str(tmp_path / ".env") in str(raised.value)


@pytest.mark.parametrize(
    ("shell", "file", "address"),
    [
        ({}, {}, HOME),
        (settings("", ELSEWHERE), {}, ELSEWHERE),
        ({}, settings("", ELSEWHERE), ELSEWHERE),
        (settings("", HOME), settings("", ELSEWHERE), HOME),
    ],
)
def test_without_a_key_the_public_address_is_that_of_the_environment_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: dict[str, str], file: dict[str, str], address: str
) -> None:
    prepare(tmp_path, monkeypatch, shell, file)
    assert read_public_account(VARIABLES, tmp_path) == Account(address)


@pytest.mark.parametrize("text", ["${SERVICE_KEY}", "$SERVICE_KEY", "${HOME:-x}", "'${SERVICE_KEY}'", '"${HOME}"'])
@pytest.mark.parametrize("address", ["https://{}.evil.example", "https://evil.example/{}", "{}"])
def test_nothing_in_a_file_is_filled_in_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, address: str
) -> None:
    prepare(tmp_path, monkeypatch, {}, settings("", address.format(text)))
    monkeypatch.setenv("SERVICE_KEY", KEY)
    for read in (read_account, read_public_account):
        with pytest.raises(UsageError) as raised:
            read(VARIABLES, tmp_path)
        assert KEY not in str(raised.value)


WRONG = {
    "no scheme": "api.service.example",
    "another scheme": "ftp://api.service.example",
    "no host": "https://",
    "only a path": "/v1",
    "a user": "https://user@api.service.example",
    "a user and a password": "https://user:hunter2@api.service.example",
    "a password that hides the host": "https://api.service.example:hunter2@evil.example",
    "a query": "https://api.service.example/?token=hunter2",
    "a fragment": "https://api.service.example/#hunter2",
    "a line break": "https://api.service.example/\nhunter2",
    "a tab in the host": "https://api.\tservice.example",
    "a space": "https://api.service.example /hunter2",
    "a backslash": "https://api.service.example\\@evil.example",
    "a backslash in the path": "https://api.service.example/\\evil.example",
    "an escape sequence": "https://api.service.example/\x1b[2J",
    "a bidirectional override": "https://api.service.example/\u202e",
    "letters of another script": "https://аpi.service.example",
    "a full-width dot": "https://api\uff0eservice.example",
    "a percent-encoded host": "https://api%2eservice.example",
    "a path upwards": "https://api.service.example/../x",
    "an encoded path upwards": "https://api.service.example/%2e%2e/x",
    "no port after the colon": "https://api.service.example:",
    "port 0": "https://api.service.example:0",
    "a port beyond the last": "https://api.service.example:65536",
    "digits of another script in the port": "https://api.service.example:٤٤٣",
    "a version": "https://api.service.example/v1",
    "an open bracket": "https://[::1",
    "a zone": "http://[fe80::1%25eth0]",
    "two slashes": "https:///api.service.example",
    "very long": "https://" + "a" * 300,
}


@pytest.mark.parametrize("place", ["environment", "file"])
@pytest.mark.parametrize("address", WRONG.values(), ids=WRONG)
def test_an_address_that_could_be_read_in_two_ways_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, place: str
) -> None:
    if place == "environment":
        prepare(tmp_path, monkeypatch, settings(KEY, address), {})
    else:
        quoted = address.replace("\\", "\\\\").replace("\n", "\\n")
        (tmp_path / ".env").write_text(f'SERVICE_KEY={KEY}\nSERVICE_URL="{quoted}"\n', encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        read_account(VARIABLES, tmp_path)
    message = str(raised.value)
    assert "SERVICE_URL" in message
    assert HOME in message
    assert "hunter2" not in message
    assert message.isprintable()


PLAIN = {
    "http://127.0.0.1:8765": True,
    "http://127.255.255.254": True,
    "http://localhost:8080": True,
    "HTTP://LocalHost": True,
    "http://[::1]:9000": True,
    "http://api.service.example": False,
    "http://10.0.0.1": False,
    "http://192.168.1.1": False,
    "http://0.0.0.0": False,
    "http://169.254.169.254": False,
    "http://localhost.evil.example": False,
    "http://127.0.0.1.evil.example": False,
    "http://localhost.": False,
    "http://127.1": False,
    "http://0x7f.1": False,
    "http://0x7f000001": False,
    "http://2130706433": False,
    "http://0177.0.0.1": False,
    "http://[::ffff:10.0.0.1]": False,
}


@pytest.mark.parametrize(("address", "allowed"), PLAIN.items(), ids=PLAIN)
def test_without_encryption_a_key_goes_to_this_machine_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, allowed: bool
) -> None:
    monkeypatch.setenv("SERVICE_KEY", KEY)
    monkeypatch.setenv("SERVICE_URL", address)
    if allowed:
        assert read_account(VARIABLES, tmp_path).base_url == address.lower()
        return
    with pytest.raises(UsageError):
        read_account(VARIABLES, tmp_path)


@pytest.mark.parametrize(("place", "allowed"), [("environment", True), ("file", False)])
def test_only_the_environment_allows_to_send_without_encryption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, allowed: bool
) -> None:
    account = settings(KEY, "http://10.0.0.1:8080")
    (tmp_path / ".env").write_text("".join(f"{n}={v}\n" for n, v in {**account, "BATCHGEN_ALLOW_HTTP": "1"}.items()))
    if place == "environment":
        monkeypatch.setenv("BATCHGEN_ALLOW_HTTP", "1")
        assert read_account(VARIABLES, tmp_path) == Account("http://10.0.0.1:8080", KEY)
        return
    with pytest.raises(UsageError, match="BATCHGEN_ALLOW_HTTP=1 in the environment"):
        read_account(VARIABLES, tmp_path)


def make_big(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


FILES = {
    "Windows-1252": (lambda path: path.write_bytes("# clé\nOTHER=1\n".encode("cp1252")), "byte 0xe9 in line 1"),
    "a wrong byte in the key": (lambda path: path.write_bytes(b"A=1\nSERVICE_KEY=cl\xe9\n"), "byte 0xe9 in line 2"),
    "a wrong byte in the address": (
        lambda path: path.write_bytes(b"SERVICE_KEY=abc\nSERVICE_URL=https://\xe9\n"),
        "byte 0xe9 in line 2",
    ),
    "UTF-16 without the key": (lambda path: path.write_bytes(b"\xff\xfeA\0=\0\xe9"), "begins as UTF-16"),
    "UTF-16 without a mark": (lambda path: path.write_bytes("A=1\n".encode("utf-16-le")), "NUL"),
    "NUL in a value": (lambda path: path.write_bytes(b"SERVICE_KEY=a\0b\n"), "NUL"),
    "a folder": (Path.mkdir, "this is a folder"),
    "a FIFO": (os.mkfifo, "is not a regular file"),
    "a device without an end": (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    "a gigabyte": (make_big, "at most 65,536 bytes"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be read"),
}


@pytest.mark.parametrize(("make", "words"), FILES.values(), ids=FILES)
def test_a_file_that_holds_no_settings_is_named_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, words: str
) -> None:
    make(tmp_path / ".env")
    for read in (read_account, read_public_account):
        with pytest.raises(UsageError, match=words) as raised:
            read(VARIABLES, tmp_path)
        assert str(tmp_path / ".env") in str(raised.value)
    monkeypatch.setenv("SERVICE_KEY", KEY)
    assert read_account(VARIABLES, tmp_path) == Account(HOME, KEY)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xef\xbb\xbfSERVICE_KEY=abc\n", id="UTF-8 with a mark"),
        pytest.param(b"SERVICE_KEY=abc\r\n", id="line ends of Windows"),
        pytest.param(b"SERVICE_KEY=abc\rA=1", id="line ends of an old Mac"),
        pytest.param(b"export SERVICE_KEY='abc'\n", id="a line of a shell"),
        pytest.param(b"SERVICE_KEY = abc", id="blanks"),
        pytest.param(b'SERVICE_KEY="abc" # mine', id="a remark"),
        pytest.param(b"SERVICE_KEY=old\nSERVICE_KEY=abc", id="twice: the last one counts"),
        pytest.param(b"SERVICE_KEY=\nSERVICE_KEY=abc", id="an empty one before"),
        pytest.param("SERVICE_KEY=abc\n".encode("utf-16"), id="UTF-16 with its mark, as PowerShell writes it"),
        pytest.param(codecs.BOM_UTF16_BE + "SERVICE_KEY=abc\r\n".encode("utf-16-be"), id="UTF-16, the other way round"),
        pytest.param(b"# cl\xe9 de L\xe9o\nSERVICE_KEY=abc\n", id="a remark in Windows-1252"),
        pytest.param(b"OTHER=cl\xe9\nSERVICE_KEY=abc\n", id="another variable in Windows-1252"),
    ],
)
def test_usual_ways_to_write_a_file_are_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    assert read_account(VARIABLES, tmp_path) == Account(HOME, "abc")


@pytest.mark.parametrize(
    ("content", "line", "name"),
    [
        ('SERVICE_KEY=abc\nSERVICE_URL="https://own.example\n', 2, "SERVICE_URL"),
        ('# mine\nSERVICE_KEY="abc', 2, "SERVICE_KEY"),
        ("set SERVICE_KEY=abc\r\n", 1, "SERVICE_KEY"),
        ('$env:SERVICE_KEY="abc"', 1, "SERVICE_KEY"),
        ("SERVICE_KEY: abc", 1, "SERVICE_KEY"),
        *(
            (f"SERVICE_KEY=abc\n\n{line}", 3, "SERVICE_URL")
            for line in (
                "- SERVICE_URL=https://own.example",
                "declare -x SERVICE_URL=https://own.example",
                "set -gx SERVICE_URL https://own.example",
                "setx SERVICE_URL https://own.example /m",
                "ENV SERVICE_URL https://own.example",
                "SERVICE_URL https://own.example",
                "\u200bSERVICE_URL=https://own.example",
                "service_url=https://own.example",
            )
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, content: str, line: int, name: str) -> None:
    (tmp_path / ".env").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=f":{line}: {name} cannot be read here"):
        read_account(VARIABLES, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "SERVICE_KEY=",
        "SERVICE_KEY = \n",
        "SERVICE_KEY # soon",
        'export SERVICE_KEY="" # soon\r\n',
        "# SERVICE_KEY=x",
        "A=$SERVICE_KEY",
    ],
)
def test_a_variable_that_is_left_empty_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / ".env").write_text(content)
    with pytest.raises(AccountError, match="no API key"):
        read_account(VARIABLES, tmp_path)


@pytest.mark.parametrize(
    "line", ["; SERVICE_URL=old", "// SERVICE_URL=old", "SERVICE_URL-old=x", "OLD.SERVICE_URL=x", "unset SERVICE_URL"]
)
def test_a_line_about_something_else_is_no_fault(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(f"SERVICE_KEY=abc\n{line}\n")
    assert read_account(VARIABLES, tmp_path) == Account(HOME, "abc")


def test_a_missing_key_says_where_to_put_one(tmp_path: Path) -> None:
    with pytest.raises(AccountError, match="Set SERVICE_KEY in the environment"):
        read_account(VARIABLES, tmp_path)


def test_a_service_without_a_key_has_only_an_address(tmp_path: Path) -> None:
    assert read_account(Variables(), tmp_path) == Account("")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.example:443/v1/x?y", "https://api.example"),
        ("http://api.example:80", "http://api.example"),
        ("https://api.example:80", "https://api.example:80"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("https://api.example@evil.example/x", "https://evil.example"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    assert origin_of(url) == origin


# --- a folder from somebody else, through the whole of batchgen -------------------------------------------------------

HOSTILE = {
    "an address": "AIMLAPI_BASE_URL={evil}\n",
    "an address and a key": "AIMLAPI_API_KEY=x\nAIMLAPI_BASE_URL={evil}\n",
    "the key in an address": "AIMLAPI_BASE_URL={evil}/${{AIMLAPI_API_KEY}}\n",
    "permission to send without encryption": "BATCHGEN_ALLOW_HTTP=1\nAIMLAPI_BASE_URL={evil}\n",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
async def test_a_folder_from_somebody_else_is_sent_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    path = write_manifest(tmp_path / "m.yaml")
    async with serving(answer(200, {})) as evil:
        (tmp_path / ".env").write_text(content.format(evil=evil.base_url))
        monkeypatch.setenv("AIMLAPI_API_KEY", KEY)
        monkeypatch.chdir(tmp_path)
        commands: dict[str, Callable[[], object]] = {
            "run": lambda: batchgen.run(path),
            "plan": lambda: batchgen.plan(path),
            "check": lambda: batchgen.check(path, online=True),
            "models": lambda: stored_prices(tmp_path / "batchgen.db", True),
        }
        for name, command in commands.items():
            with pytest.raises(UsageError) as raised:
                await asyncio.to_thread(command)
            assert KEY not in str(raised.value), name
    assert evil.connections == 0
