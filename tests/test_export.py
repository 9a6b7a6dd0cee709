"""`batchgen export`: its forms, read back by their own libraries, and how it goes on where it was broken off."""

from __future__ import annotations

import codecs
import csv
import io
import json
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from sqlalchemy import update

from batchgen.export.records import COLUMNS
from batchgen.files.measures import Measures
from batchgen.files.safe_open import open_directory
from batchgen.files.staged_file import stage
from batchgen.jobs import State, Verdict
from batchgen.jobtable import delivery, polling, verdicts
from batchgen.jobtable.database import Database
from batchgen.jobtable.delivery import PlacedFile
from batchgen.jobtable.schema import outputs
from batchgen.jobtable.verdicts import Judgement
from batchgen.report.rows import FORMULA_SIGNS
from batchgen.services.outcomes import Finished
from tests.conftest import Command, Launch
from tests.disks import small_disk
from tests.table import RUN, Table, spec
from tests.test_lost_files import DAMAGES
from tests.waiting import until

KEYS = ("mona", "lisa", "a.b/c d", "späť")


def deliver(table: Table, key: str, content: bytes = b"", path: str = "", **changes: Any) -> Path:
    """A job whose file lies at its place, as its row says."""
    content = content or f"the video of {key}".encode()
    table.add(spec(key, output=path or f"{len(table.rows())}.mp4", **changes))
    intent = next(intent for intent in table.intend() if intent.key == key)
    table.accept(intent, f"g-{key}", "0.2941")
    (job,) = table.claim(State.GENERATING)
    table.finish(job)
    (job,) = table.claim(State.DOWNLOADING)
    (output,) = job.outputs
    place(table, job, output, content)
    return table.folder / job.output_path


def place(table: Table, job: Any, output: Any, content: bytes, path: str = "") -> None:
    path = path or job.output_path
    target = table.folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    assert table.change(
        delivery.placed, job, RUN, output, PlacedFile(len(content), sha256(content).hexdigest(), path), table.now
    )


def judge(table: Table, key: str, verdict: Verdict, stars: int | None = None) -> None:
    assert table.change(verdicts.record_verdict, table.row(key).attempt_id, Judgement(verdict, stars), table.now)


def made(folder: Path, empty_table: Path, clips: Callable[[Table], None]) -> Path:
    """A folder with a batch, to copy: making it in each test would take most of their time."""
    shutil.copyfile(empty_table, folder / "batchgen.db")
    with Database(folder / "batchgen.db") as database:
        table = Table(database, folder)
        table.sync()
        clips(table)
    return folder


@contextmanager
def copied(source: Path, folder: Path) -> Iterator[Table]:
    shutil.copytree(source, folder, dirs_exist_ok=True)
    with Database(folder / "batchgen.db") as database:
        yield Table(database, folder, batch_id=1)


@pytest.fixture(scope="module")
def four_clips(tmp_path_factory: pytest.TempPathFactory, empty_table: Path) -> Path:
    def clips(table: Table) -> None:
        for key in KEYS:
            deliver(table, key, prompt=f"=HYPERLINK({key})", tags=("x", key), duration=5, clip_seconds=5.0)

    return made(tmp_path_factory.mktemp("four"), empty_table, clips)


@pytest.fixture
def delivered(tmp_path: Path, four_clips: Path) -> Iterator[Table]:
    """A batch of four delivered clips."""
    with copied(four_clips, tmp_path) as table:
        yield table


@pytest.fixture
def export(delivered: Table, batchgen: Command) -> Command:
    """The command on that batch."""
    return lambda *words, **variables: batchgen("export", "spring.yaml", *words, **variables)


def samples(folder: Path, name: str = "spring") -> dict[str, dict[str, bytes]]:
    """What a reader of WebDataset sees: by key, the contents by suffix."""
    read: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob(f"{name}-[0-9]*.tar")):
        with tarfile.open(path) as shard:
            for member in shard:
                key, _, suffix = member.name.partition(".")
                content = shard.extractfile(member)
                assert content and suffix not in read.setdefault(key, {})
                read[key][suffix] = content.read()
    return read


def identity(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written or replaced."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_measure_of_a_clip_is_exported() -> None:
    missing = {field.name for field in fields(Measures)} - {"signature"} - COLUMNS.keys()
    assert not missing, "`SELECT_CLIP_RECORDS` of `jobtable/clips.py` and `COLUMNS` of `export/records.py` have each"


def test_csv_has_a_row_for_each_clip_and_no_cell_is_a_formula(export: Command, delivered: Table) -> None:
    written = export("--format", "csv")
    assert (written.returncode, written.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(written.stdout)))
    assert [row["id"] for row in rows] == list(KEYS)
    assert list(rows[0]) == list(COLUMNS)
    assert rows[0]["prompt"] == "'=HYPERLINK(mona)"
    assert (rows[0]["cost_usd"], rows[0]["charge_source"], rows[0]["clip_seconds"]) == ("0.2941", "answer", "5")
    assert json.loads(rows[0]["params"])["duration"] == 5
    assert json.loads(rows[2]["tags"]) == ["x", "a.b/c d"]
    assert not [cell for row in rows for cell in row.values() if cell.startswith(FORMULA_SIGNS)]


def test_csv_holds_every_text_exactly(table: Table, batchgen: Command) -> None:
    (table.folder / "spring.yaml").touch()
    prompt, key = "a\xa0b\u3000c\u2028d\xade\ufefff\rg\nh", "写真\u30001"
    deliver(table, key, prompt=prompt, path=f"{key}.mp4")
    assert batchgen("export", "spring.yaml", "--format", "csv", "-o", "clips.csv").returncode == 0
    content = (table.folder / "clips.csv").read_bytes()
    shown = batchgen("export", "spring.yaml", "--format", "csv").stdout
    assert content.startswith(codecs.BOM_UTF8)  # for Excel, which else takes it for text of Windows
    assert not shown.startswith("\ufeff")
    (row,) = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    assert (row["id"], row["prompt"], row["path"]) == (key, prompt, f"{key}.mp4")
    assert content.count(b"\r\n") == 2


def test_json_lines_hold_the_same_as_the_table(export: Command, delivered: Table) -> None:
    judge(delivered, "mona", Verdict.PICKED, 4)
    first, *_, last = map(json.loads, export("--format", "jsonl").stdout.splitlines())
    assert list(first) == list(COLUMNS)
    assert (first["prompt"], first["params"]["duration"]) == ("=HYPERLINK(mona)", 5)
    assert "prompt" not in first["params"] and "model" not in first["params"]
    assert (first["verdict"], first["stars"], first["cost_usd"]) == ("picked", 4, 0.2941)
    assert (first["sha256"], first["bytes"]) == (delivered.output("mona").sha256, delivered.output("mona").bytes)
    assert (last["id"], last["verdict"], last["delivered_at"]) == ("späť", None, "2026-03-01T12:00:00.000000Z")


def test_parquet_has_typed_columns(export: Command, delivered: Table, tmp_path: Path) -> None:
    assert export("--format", "parquet", "-o", "x/clips.parquet").returncode == 0
    read = parquet.read_table(tmp_path / "x" / "clips.parquet")
    assert read.column_names == list(COLUMNS)
    types = {name: read.schema.field(name).type for name in COLUMNS}
    assert types["cost_usd"] == pyarrow.decimal128(16, 7)
    assert types["sent_at"] == pyarrow.timestamp("us", "UTC")
    assert (types["width"], types["seconds"]) == (pyarrow.int64(), pyarrow.float64())
    rows = read.to_pylist()
    assert [row["id"] for row in rows] == list(KEYS)
    assert (rows[0]["cost_usd"], rows[0]["sent_at"], rows[0]["tags"]) == (
        Decimal("0.2941"),
        delivered.now,
        ["x", "mona"],
    )
    assert json.loads(rows[0]["params"])["duration"] == 5


def test_parquet_says_how_to_install_what_it_needs(export: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    refused = export("--format", "parquet", "-o", "clips.parquet")
    assert refused.returncode == 2
    assert "pip install 'batchgen[parquet]'" in refused.stderr


def test_a_webdataset_has_clip_record_and_prompt_of_each_sample(
    export: Command, delivered: Table, tmp_path: Path
) -> None:
    assert export("--format", "webdataset", "-o", "set").returncode == 0
    read = samples(tmp_path / "set")
    assert [json.loads(sample["json"])["id"] for sample in read.values()] == list(KEYS)
    for key, sample in read.items():
        record = json.loads(sample["json"])
        assert sha256(sample["mp4"]).hexdigest() == record["sha256"]
        assert sample["txt"].decode() == record["prompt"] == f"=HYPERLINK({record['id']})"
        assert not set(key) & set("./ ") and key.isascii()
    with tarfile.open(tmp_path / "set" / "spring-000000.tar") as shard:
        members = [(member.uid, member.gid, member.uname, member.mtime) for member in shard]
    assert set(members) == {(0, 0, "", int(delivered.now.timestamp()))}
    export("--format", "webdataset", "-o", "again")
    assert shards(tmp_path / "again") == shards(tmp_path / "set"), "the same table gives the same bytes"


@pytest.mark.parametrize("is_first_delivered", [True, False])
def test_several_files_of_a_job_are_several_clips_whose_cost_is_counted_once(
    table: Table, batchgen: Command, is_first_delivered: bool
) -> None:
    table.add(spec("two"))
    (intent,) = table.intend()
    table.accept(intent, "g-two", "1.5")
    (job,) = table.claim(State.GENERATING)
    table.change(polling.finished, job, RUN, Finished(tuple(f"https://x.test/{n}" for n in (1, 2, 3))), table.now)
    (job,) = table.claim(State.DOWNLOADING)
    delivered = job.outputs[:2] if is_first_delivered else job.outputs[1:]
    for output in delivered:
        place(table, job, output, b"the same bytes", f"two-{output.number}.mp4")
    rows = [json.loads(line) for line in batchgen("export", "spring.yaml", "--format", "jsonl").stdout.splitlines()]
    assert [(row["output"], row["path"], row["cost_usd"]) for row in rows] == [
        (output.number, f"two-{output.number}.mp4", cost) for output, cost in zip(delivered, (1.5, None), strict=True)
    ]
    assert batchgen("export", "spring.yaml", "--format", "webdataset", "-o", "set").returncode == 0
    assert len(samples(table.folder / "set")) == 2


def test_a_file_that_is_written_out_in_a_parameter_is_exported_as_its_digest(table: Table, batchgen: Command) -> None:
    deliver(table, "mona", image=f"data:image/png;base64,{'A' * 20_000}", prompt="x " * 9_000)
    (line,) = batchgen("export", "spring.yaml", "--format", "jsonl").stdout.splitlines()
    assert json.loads(line)["params"]["image_url"].startswith("sha256:")
    assert json.loads(line)["prompt"] == "x " * 9_000


MB = 1_000_000


@pytest.fixture(scope="module")
def seven_clips(tmp_path_factory: pytest.TempPathFactory, empty_table: Path) -> Path:
    def clips(table: Table) -> None:
        for number in range(7):
            deliver(table, f"clip-{number}", bytes([number]) * 400_000)

    return made(tmp_path_factory.mktemp("seven"), empty_table, clips)


@pytest.fixture
def large_batch(tmp_path: Path, seven_clips: Path) -> Iterator[Table]:
    """Seven clips of 400 kB: two to a shard of a megabyte."""
    with copied(seven_clips, tmp_path) as table:
        yield table


def export_shards(batchgen: Command, folder: str = "set", code: int = 0, *words: str) -> str:
    ended = batchgen("export", "spring.yaml", "--format", "webdataset", "-o", folder, "--shard-size", "1", *words)
    assert ended.returncode == code, ended.stderr
    return ended.stderr


@pytest.mark.parametrize("missing", [(), (3,), (2, 3), (0, 1, 2, 3)])
def test_missing_shards_are_written_again_byte_for_byte(
    missing: tuple[int, ...], large_batch: Table, batchgen: Command
) -> None:
    export_shards(batchgen)
    folder = large_batch.folder / "set"
    whole = shards(folder)
    assert list(whole) == [f"spring-{number:06}.tar" for number in range(4)]
    for number in missing:
        (folder / f"spring-{number:06}.tar").unlink()
    kept = {path.name: identity(path) for path in folder.iterdir()}
    export_shards(batchgen)
    assert shards(folder) == whole
    assert {name: identity(folder / name) for name in kept} == kept, "what is there is not touched"


def test_clips_that_came_since_go_into_further_shards(large_batch: Table, batchgen: Command) -> None:
    export_shards(batchgen)
    before = shards(large_batch.folder / "set")
    for number in range(3):
        deliver(large_batch, f"later-{number}", bytes([number, 1]) * 200_000)
    assert "10 clips of spring, 2 new tar files" in export_shards(batchgen)
    after = shards(large_batch.folder / "set")
    assert {name: after[name] for name in before} == before
    assert [json.loads(sample["json"])["id"] for sample in samples(large_batch.folder / "set").values()] == [
        *(f"clip-{number}" for number in range(7)),
        *(f"later-{number}" for number in range(3)),
    ]


def test_sets_of_picked_and_of_rejected_clips_share_a_folder(large_batch: Table, batchgen: Command) -> None:
    for number in range(4):
        judge(large_batch, f"clip-{number}", Verdict.PICKED if number % 2 else Verdict.REJECTED, number + 1)
    folder = large_batch.folder / "set"
    export_shards(batchgen, "set", 0, "--picked")
    export_shards(batchgen, "set", 0, "--rejected")
    export_shards(batchgen, "set", 0, "--stars", "3")
    ids = {name: [json.loads(s["json"])["id"] for s in samples(folder, name).values()] for name in SETS}
    assert ids == SETS
    judge(large_batch, "clip-1", Verdict.REJECTED)
    assert "1 clip in these tar files no longer belong" in export_shards(batchgen, "set", 3, "--picked")


SETS = {
    "spring-picked": ["clip-1", "clip-3"],
    "spring-rejected": ["clip-0", "clip-2"],
    "spring-3-stars": ["clip-2", "clip-3"],
}


def test_an_export_that_was_killed_goes_on(large_batch: Table, batchgen: Command, launch: Launch) -> None:
    export_shards(batchgen, "whole")
    folder = large_batch.folder / "set"
    folder.mkdir()
    killed = launch("export", "spring.yaml", "--format", "webdataset", "-o", "set", "--shard-size", "1")
    until(lambda: any(folder.iterdir()))
    killed.signal(signal.SIGKILL)
    killed.end()
    export_shards(batchgen)
    assert shards(folder) == shards(large_batch.folder / "whole")


def test_a_full_disk_ends_the_export_and_the_next_call_completes_it(large_batch: Table, batchgen: Command) -> None:
    with small_disk(large_batch.folder / "small", 3 * MB // 2) as folder:
        message = export_shards(batchgen, "small/set", 8)
        assert "disk is full" in message and "goes on from there" in message
        assert [path.name for path in (folder / "set").iterdir()] == ["spring-000000.tar"]
        subprocess.run(["mount", "-o", f"remount,size={9 * MB}", str(folder)], check=True)
        export_shards(batchgen, "small/set")
        export_shards(batchgen, "whole")
        assert shards(folder / "set") == shards(large_batch.folder / "whole")


@pytest.mark.parametrize(
    ("damage", "fault"), [pytest.param(damage, fault, id=name) for name, damage, _, fault in DAMAGES]
)
def test_a_lost_or_changed_clip_is_named_and_the_rest_is_exported(
    damage: Callable[[Path], Any], fault: str, table: Table, batchgen: Command
) -> None:
    content = b"a delivered video"  # of the length that `DAMAGES` names
    paths = {key: deliver(table, key, content) for key in ("mona", "lisa", "gio")}
    damage(paths["lisa"])
    for form, words in {"webdataset": ["-o", "set"], "jsonl": ["--verify"]}.items():
        ended = batchgen("export", "spring.yaml", "--format", form, *words)
        assert ended.returncode == (3 if fault else 0)
        assert (f"1.mp4 (job lisa) {fault}" in ended.stderr) == bool(fault)
        assert ("batchgen retry spring.yaml --download lisa" in ended.stderr) == bool(fault)
    kept = [json.loads(sample["json"])["id"] for sample in samples(table.folder / "set").values()]
    assert kept == ["mona", *([] if fault else ["lisa"]), "gio"]
    paths["lisa"].unlink(missing_ok=True) if not paths["lisa"].is_dir() else paths["lisa"].rmdir()
    paths["lisa"].write_bytes(content)
    assert batchgen("export", "spring.yaml", "--format", "webdataset", "-o", "set").returncode == 0
    assert len(samples(table.folder / "set")) == 3


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_file_that_is_there_is_never_replaced(form: str, export: Command, delivered: Table, tmp_path: Path) -> None:
    path = tmp_path / "clips"
    assert export("--format", form, "-o", "clips").returncode == 0
    before = identity(path)
    assert "as it was already" in export("--format", form, "-o", "clips").stderr
    deliver(delivered, "new")
    refused = export("--format", form, "-o", "clips")
    assert (refused.returncode, "already exists with other content" in refused.stderr) == (2, True)
    assert identity(path) == before
    assert [path.name for path in tmp_path.glob(".*")] == [], "nothing is left"


def test_two_exports_do_not_write_one_file(export: Command, tmp_path: Path) -> None:
    with open_directory(tmp_path) as folder, stage(folder, "clips.csv"):
        refused = export("--format", "csv", "-o", "clips.csv")
    assert (refused.returncode, "another command writes this file" in refused.stderr) == (8, True)
    assert export("--format", "csv", "-o", "clips.csv").returncode == 0


@pytest.mark.parametrize("name", [".clips.csv.part", "clips.csv", "0.mp4.json", ".0.mp4.json.part"])
def test_links_lead_no_export_elsewhere(name: str, export: Command, tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere.txt"
    secret.write_text("mine")
    (tmp_path / name).symlink_to(secret)
    ended = export("--format", "csv", "-o", "clips.csv", "--sidecar")
    assert ended.returncode in (2, 3, 8)
    assert secret.read_text() == "mine"
    assert (tmp_path / name).is_symlink()


def test_a_sidecar_is_kept_up_to_date_unless_a_person_has_edited_it(
    export: Command, delivered: Table, tmp_path: Path
) -> None:
    assert "4 sidecars written" in export("--sidecar").stderr
    path = tmp_path / "0.mp4.json"
    before = identity(path)
    assert json.loads(path.read_text())["id"] == "mona"
    assert "0 sidecars written beside the clips of spring, 4 as they were already" in export("--sidecar").stderr
    assert identity(path) == before
    judge(delivered, "mona", Verdict.PICKED)
    assert "1 sidecar written" in export("--sidecar").stderr
    assert json.loads(path.read_text())["verdict"] == "picked"
    edited = path.read_text().replace("picked", "rejected")
    path.write_text(edited)
    refused = export("--sidecar")
    assert (refused.returncode, "0.mp4.json: this file is yours" in refused.stderr) == (3, True)
    assert path.read_text() == edited


@pytest.mark.parametrize("content", ["", "{}", "[1]", "no json", '{"record_sha256": "x"}', "[" * 100_000])
def test_a_file_of_a_person_is_not_taken_for_a_sidecar(content: str, export: Command, tmp_path: Path) -> None:
    path = tmp_path / "0.mp4.json"
    path.write_text(content)
    assert export("--sidecar").returncode == 3
    assert path.read_text() == content
    assert json.loads((tmp_path / "1.mp4.json").read_text())["id"] == "lisa"


def test_a_path_that_leads_out_of_the_folder_is_not_followed(export: Command, delivered: Table, tmp_path: Path) -> None:
    (tmp_path.parent / "x.mp4").write_bytes((tmp_path / "0.mp4").read_bytes())
    first = outputs.c.id == delivered.output("mona").id
    delivered.change(lambda connection: connection.execute(update(outputs).where(first).values(path="../x.mp4")))
    for words in (["--format", "webdataset", "-o", "set"], ["--format", "jsonl"], ["--sidecar"]):
        ended = export(*words)
        assert (ended.returncode, "the output path leaves the manifest's folder" in ended.stderr) == (3, True)
    assert not (tmp_path.parent / "x.mp4.json").exists()


MISTAKES: dict[str, tuple[list[str], str]] = {
    "nothing to do": ([], "Say --format csv|jsonl|parquet|webdataset, or --sidecar"),
    "no such format": (["--format", "xml"], "'xml' is not one of"),
    "both verdicts": (["--format", "csv", "--picked", "--rejected"], "exclude one another"),
    "nothing picked": (["--format", "csv", "--picked"], "no delivered clip has such a verdict"),
    "an output of sidecars": (["--sidecar", "-o", "x"], "sidecars lie beside their clips"),
    "shards on standard output": (["--format", "webdataset"], "needs -o, such as -o dataset/"),
    "Parquet on standard output": (["--format", "parquet", "-o", "-"], "needs -o, such as -o clips.parquet"),
    "a folder for a file": (["--format", "csv", "-o", "."], "name a file in it, such as clips.csv"),
    "a folder that is not there for a file": (["--format", "csv", "-o", "new/"], "in it, such as new/clips.csv"),
    "a bucket": (["--format", "csv", "-o", "s3://clips/x.csv"], "writes to a disk, not to an address"),
    "a bucket of shards": (["--format", "webdataset", "-o", "s3://clips/set"], "writes to a disk, not to an address"),
    "a home without a shell": (["--format", "csv", "-o", "~/x.csv"], "no shell has filled in the ~ here"),
    "a file for a folder": (["--format", "webdataset", "-o", "0.mp4"], "a webdataset is a folder"),
    "a file in the way": (["--format", "csv", "-o", "0.mp4/x.csv"], "0.mp4"),
    "a damaged shard": (["--format", "webdataset", "-o", "damaged"], "not a shard that can be read"),
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(words: list[str], message: str, export: Command, tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "spring-000000.tar").write_bytes(b"no tar" * 1_000)
    before = sorted(tmp_path.iterdir())
    refused = export(*words)
    assert refused.returncode in (2, 8)
    assert message in refused.stderr and "Traceback" not in refused.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_batch_without_a_delivered_clip_has_nothing_to_export(table: Table, batchgen: Command) -> None:
    table.bring(State.GENERATING)
    refused = batchgen("export", "spring.yaml", "--format", "csv")
    assert (refused.returncode, "no clip is delivered yet" in refused.stderr) == (2, True)
