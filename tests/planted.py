"""What a hostile folder holds at a name that batchgen will use: links, pipes, devices, files of others."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PRECIOUS = b"a thesis, of which there is no copy"
OTHER_USER = 12_345


@dataclass
class Home:
    """A person's file and folder outside the manifest's folder, to which plants lead."""

    folder: Path
    file: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.file = self.folder / "thesis.txt"
        self.file.write_bytes(PRECIOUS)

    def check_untouched(self) -> None:
        assert [path.name for path in self.folder.iterdir()] == ["thesis.txt"]
        assert self.file.read_bytes() == PRECIOUS
        assert stat.S_IMODE(self.file.stat().st_mode) & 0o111 == 0


def link_to_a_file(path: Path, home: Home) -> None:
    path.symlink_to(home.file)


def link_to_nowhere(path: Path, home: Home) -> None:
    path.symlink_to(home.folder / "new")


def link_to_a_folder(path: Path, home: Home) -> None:
    path.symlink_to(home.folder)


def link_to_itself(path: Path, _home: Home) -> None:
    path.symlink_to(path.name)


def second_name_of_a_file(path: Path, home: Home) -> None:
    path.hardlink_to(home.file)


def pipe(path: Path, _home: Home) -> None:
    os.mkfifo(path)


def folder(path: Path, _home: Home) -> None:
    path.mkdir()


def listening_socket(path: Path, _home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as server:  # by a short path: an address has at most 107 bytes
        handle = os.open(path.parent, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{handle}/{path.name}")
        os.close(handle)


def device(path: Path, _home: Home) -> None:
    need_root()
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero


def file_of_another_user(path: Path, _home: Home) -> None:
    need_root()
    path.write_bytes(PRECIOUS)
    os.chown(path, OTHER_USER, OTHER_USER)


def file_that_may_only_be_read(path: Path, _home: Home) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write every file")
    path.write_bytes(PRECIOUS)
    path.chmod(0o400)


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can plant this")


Plant = Callable[[Path, Home], None]
LINKS: tuple[Plant, ...] = (link_to_a_file, link_to_nowhere, link_to_a_folder, link_to_itself)
SPECIAL: tuple[Plant, ...] = (pipe, listening_socket, device)
ALL: tuple[Plant, ...] = (*LINKS, *SPECIAL, second_name_of_a_file, folder, file_of_another_user)
PLANTS = (*ALL, file_that_may_only_be_read)
FOLDERS: tuple[Plant, ...] = (link_to_a_folder, folder)
A_FEW: tuple[Plant, ...] = (link_to_a_file, second_name_of_a_file, pipe, folder, file_of_another_user)
"""A plant for each reason of `safe_open`, for places where nothing but that module opens a file."""


def name_of_plant(plant: object) -> str:
    """The id of a test."""
    return str(getattr(plant, "__name__", plant)).replace("_", " ")


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()
