"""`batchgen next`: judged jobs become the next manifest, as they were sent, for another model or for another try."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import batchgen as api
from batchgen.errors import ExitCode
from batchgen.jobs import Parent, State, Verdict
from batchgen.jobtable.database import Database
from batchgen.jobtable.verdicts import Judgement, record_verdict
from batchgen.manifest import reader
from batchgen.simulator.service import Simulation
from tests.batches import MASTER, STANDARD, TEXT_MODEL, Bill, write_image, write_manifest
from tests.conftest import NOON, Command
from tests.serving import served
from tests.table import Table, spec
from tests.waiting import rows

RUNWAY = "runway-gen3/turbo/image-to-video"
IMAGE = "https://example.com/a.png"
SEEDED = "alibaba/wan2.1-t2v-turbo"
PICKED, REJECTED = Judgement(Verdict.PICKED, 4), Judgement(Verdict.REJECTED)


def say(table: Table, **judgements: Judgement) -> None:
    for key, judgement in judgements.items():
        assert table.change(record_verdict, table.row(key).attempt_id, judgement, NOON)


@pytest.fixture
def table(table: Table) -> Table:
    """The job table of a batch whose manifest is there, if with nothing in it: `next` reads what was sent."""
    (table.folder / "spring.yaml").touch()
    return table


@pytest.fixture
def pilot(table: Table) -> Table:
    """A batch of delivered jobs, one of which is picked and one rejected, and of one that failed."""
    for key in ("mona", "lisa", "gioconda"):
        table.bring(State.DONE, key)
    table.bring(State.FAILED, "lost")
    say(table, mona=PICKED, lisa=REJECTED)
    return table


def jobs_of(path: Path) -> dict[str, dict[str, Any]]:
    """The requests of a manifest by id, as `check` reads it, without the model."""
    return {job.key: json.loads(job.request) for job in reader.read(path).jobs}


# --- the whole loop --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pilot_is_judged_and_its_picked_and_rejected_jobs_are_bought_once_more(
    tmp_path: Path, batchgen: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "images/a.png", 320, 320)
    entries = [{"id": key, "prompt": f"The {key}.", "image_url": "images/a.png"} for key in ("sea", "sky", "sun")]
    write_manifest(tmp_path / "pilot.yaml", entries, defaults={"model": STANDARD, "duration": 5})
    with served(Simulation(speed=2000, instant=True, ledger=tmp_path / "ledger")) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert batchgen("run", "pilot.yaml").returncode == 0
        clips = "SELECT j.key, o.sha256 FROM jobs j JOIN outputs o ON o.attempt_id = j.attempt_id"
        sha256s = {row["key"]: row["sha256"] for row in rows(tmp_path / "batchgen.db", clips)}
        said = {"sea": "picked", "sky": "rejected", "sun": None}
        listed = [
            {"id": key, "clip": sha256s[key][:16], "verdict": verdict, "stars": None, "at": "2026-01-02T03:04:05Z"}
            for key, verdict in said.items()
        ]
        document = {"format": "batchgen verdicts", "version": 1, "batch": "pilot", "verdicts": listed}
        (tmp_path / "v.json").write_text(json.dumps(document))
        assert batchgen("verdicts", "import", "pilot.yaml", "v.json").returncode == 0
        for more, path in (
            (("--picked", "--model", MASTER), "promoted.yaml"),
            (("--rejected", "--reseed"), "again.yaml"),
        ):
            ended = batchgen("next", "pilot.yaml", *more, "-o", path)
            assert (ended.stdout, ended.returncode) == (f"{path}: 1 job of pilot\n", 0)
            assert "warning" not in ended.stderr
            assert f"Next: `batchgen plan {path}`\n" in ended.stderr
            run = api.run(tmp_path / path, changed=None)
            assert (run.exit_code, len(run.jobs)) == (ExitCode.DELIVERED, 1)
    bought = [(body["model"], body["prompt"]) for body in Bill(tmp_path / "ledger").bodies()]
    assert sorted(bought[:3]) == [(STANDARD, f"The {key}.") for key in ("sea", "sky", "sun")]
    assert bought[3:] == [(MASTER, "The sea."), (STANDARD, "The sky.")]
    lineage = "SELECT batch, id, parent_batch, parent_id, parent_verdict FROM lineage ORDER BY parent_id"
    assert [tuple(row.values()) for row in rows(tmp_path / "batchgen.db", lineage)] == [
        ("promoted", "sea", "pilot", "sea", "picked"),
        ("again", "sky", "pilot", "sky", "rejected"),
    ]


# --- which jobs, and as they were sent -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "ids", "left_out"),
    [
        (["--picked"], ["mona"], "1 not delivered, 1 rejected, 1 without a verdict"),
        (["--rejected"], ["lisa"], "1 not delivered, 1 picked, 1 without a verdict"),
        (["--stars", "4"], ["mona"], "1 not delivered, 1 rejected, 1 without a verdict"),
    ],
)
def test_jobs_are_chosen_by_their_verdicts(
    pilot: Table, batchgen: Command, options: list[str], ids: list[str], left_out: str
) -> None:
    ended = batchgen("next", "spring.yaml", *options)
    assert [job["id"] for job in yaml.safe_load(ended.stdout)["jobs"]] == ids
    assert ended.stderr.splitlines()[0] == f"left out: {left_out}"


def test_a_verdict_is_on_the_current_clip_only(pilot: Table, batchgen: Command) -> None:
    pilot.cancel("mona")
    pilot.change(lambda connection: connection.exec_driver_sql("UPDATE jobs SET attempt_id = 2 WHERE key = 'mona'"))
    say(pilot, mona=REJECTED)
    assert batchgen("next", "spring.yaml", "--picked").returncode == 2


def test_what_was_paid_for_is_written_not_what_the_manifest_says_now(pilot: Table, batchgen: Command) -> None:
    edited = [spec("mona", prompt="Another."), *(spec(key) for key in ("lisa", "gioconda", "lost"))]
    pilot.sync(*edited, changed="keep")
    (job,) = yaml.safe_load(batchgen("next", "spring.yaml", "--picked").stdout)["jobs"]
    assert job["prompt"] == "She puts on glasses."


@pytest.mark.parametrize(
    ("service", "asks"),
    [
        ("aimlapi", "a run asks before it pays again."),
        (
            "simulator",
            "a run on this job table asks before it makes them again, and on another one does not know of them.",
        ),
    ],
)
def test_requests_that_are_written_unchanged_are_named(
    service: str, asks: str, pilot: Table, batchgen: Command
) -> None:
    pilot.change(lambda connection: connection.exec_driver_sql("UPDATE batches SET service = ?", (service,)))
    ended = batchgen("next", "spring.yaml", "--picked", "-o", "june.yaml")
    assert f"warning: 1 job just as paid for already (mona): {asks}" in ended.stderr
    assert ended.returncode == 0
    manifest = (pilot.folder / "june.yaml").read_text()
    assert ("# These jobs were simulated: for real videos, write" in manifest) is (service == "simulator")
    simulate = " --simulate" if service == "simulator" else ""
    assert ended.stderr.endswith(f"Next: `batchgen plan june.yaml{simulate}`\n"), "as all commands advise"


def test_a_file_in_another_folder_finds_the_images_and_the_job_table(pilot: Table, batchgen: Command) -> None:
    write_image(pilot.folder / "a b.png", 320, 320)
    pilot.add(spec("local", image="a b.png", input_pointers=("/image_url",), tags=("x",), priority=3))
    pilot.bring(State.DONE, "local")
    say(pilot, local=PICKED)
    ended = batchgen("next", "spring.yaml", "--picked", "--reseed", "-o", "next/june.yaml")
    assert f"plan next/june.yaml --db {pilot.folder}/batchgen.db`" in ended.stderr
    local = reader.read(pilot.folder / "next/june.yaml").jobs[1]
    assert json.loads(local.request)["image_url"] == "../a b.png"
    assert (local.output, local.priority, local.tags) == ("june/local.mp4", 3, ("x",))
    assert (local.parent, local.take) == (Parent("spring", "local"), 2)


def test_a_local_image_that_is_another_one_now_is_named(pilot: Table, batchgen: Command) -> None:
    names = {"changed.png": "0" * 64, "gone.png": "1" * 64}
    digests = {name: {"size": 1, "mtime_ns": 1, "sha256": sha256} for name, sha256 in names.items()}
    (pilot.folder / "changed.png").write_bytes(b"another")
    update = "UPDATE attempts SET input_digests = ? WHERE job_id = 1"
    pilot.change(lambda connection: connection.exec_driver_sql(update, (json.dumps(digests),)))
    ended = batchgen("next", "spring.yaml", "--picked", "--model", MASTER)
    assert ended.stderr.splitlines()[1:] == [
        "warning: changed.png has changed since it was sent: it would be another video (mona)",
        "warning: gone.png is missing: put it back before a run (mona)",
    ]
    assert "  # gone.png is missing: put it back before a run\n" in ended.stdout


def test_no_text_breaks_out_of_a_comment(table: Table, batchgen: Command) -> None:
    odd = 'a: b" #\u2028jobs'.replace("\u2028", " ") + " \u00e9{{ x }}"
    table.bring(State.DONE, odd)
    say(table, **{odd: PICKED})
    left_out = "x\n  - id: intruder\u2028y"
    request = {"model": STANDARD, "image_url": "https://example.com/a.png", left_out: 1}
    statement = "UPDATE jobs SET request = ?"
    table.change(lambda connection: connection.exec_driver_sql(statement, (json.dumps(request),)))
    path = table.folder / "007 {{ x }} #.yaml"
    ended = batchgen("next", "spring.yaml", "--picked", "--model", MASTER, "-o", path.name)
    assert (list(jobs_of(path)), reader.read(path).batch) == ([odd], path.stem)
    expected = "# left out, as the model does not take it: x\\n  - id: intruder\\u2028y\n"
    assert expected in path.read_text("utf-8")
    assert ended.stderr.count("\n") == 2  # what is left out, and what comes next


# --- another model ---------------------------------------------------------------------------------------------------


def test_what_another_model_does_not_take_is_left_out_and_named(table: Table, batchgen: Command) -> None:
    for key in ("mona", "lisa"):
        table.add(spec(key, duration=10, cfg_scale=0.7, negative_prompt="people"))
        table.bring(State.DONE, key)
        say(table, **{key: PICKED})
    ended = batchgen("next", "spring.yaml", "--picked", "--model", TEXT_MODEL, "-o", "june.yaml")
    message = f"left out of 2 jobs: `image_url`, which {TEXT_MODEL} does not take (mona, lisa)"
    assert ended.stderr.splitlines()[0] == message
    same = {"model": TEXT_MODEL, "duration": 10, "cfg_scale": 0.7, "negative_prompt": "people"}
    assert jobs_of(table.folder / "june.yaml")["mona"] == {**same, "prompt": "She puts on glasses."}


def test_nothing_is_judged_where_no_clip_is_delivered(table: Table, batchgen: Command) -> None:
    table.add(spec())
    ended = batchgen("next", "spring.yaml", "--picked")
    nothing = "spring.yaml: there are no picked jobs of spring: 1 not delivered."
    assert ended.stderr == f"{nothing}\n`batchgen status spring.yaml` says what the jobs wait for.\n"


def test_a_length_that_is_text_becomes_the_number_that_another_model_takes(table: Table, batchgen: Command) -> None:
    table.add(spec(model=RUNWAY, request=json.dumps({"model": RUNWAY, "image_url": IMAGE, "duration": "10"})))
    table.bring(State.DONE)
    say(table, mona=PICKED)
    batchgen("next", "spring.yaml", "--picked", "--model", MASTER, "-o", "june.yaml")
    assert jobs_of(table.folder / "june.yaml") == {"mona": {"model": MASTER, "image_url": IMAGE, "duration": 10}}


MISTAKES = {
    "nothing chosen": ([], "which jobs? Say --picked, --rejected or --stars N\n"),
    "both": (["--picked", "--rejected"], "--picked and --rejected exclude one another: write a manifest for each\n"),
    "nobody has so many stars": (
        ["--stars", "5"],
        "spring.yaml: there are no jobs of spring with 5 stars or more: 1 not delivered, 1 picked, 1 rejected,"
        " 1 without a verdict.\nJudge the clips with `batchgen review spring.yaml`, or import",
    ),
    "a parameter that the model needs": (
        ["--picked", "--model", "klingai/kling-video-v1.6-standard-effects", "-o", "june.yaml"],
        "mona: `klingai/kling-video-v1.6-standard-effects` needs `effect_scene`\n"
        "Nothing has been written. `batchgen models klingai/kling-video-v1.6-standard-effects` shows what it takes.\n",
    ),
    "no such model": (
        ["--picked", "--model", "klingai/v2.1-master-image-to-vido"],
        f"--model: there is no model 'klingai/v2.1-master-image-to-vido'; did you mean {MASTER}",
    ),
    "no manifest": (["--picked", "-o", "june.txt"], "june.txt: the name of a manifest must end in .yaml\n"),
    "a folder": (["--picked", "-o", "."], ".: this is a folder; name a file in it, such as promoted.yaml\n"),
    "a folder that is not there": (["--picked", "-o", "x.yaml/"], "x.yaml/: this is a folder; name a file in it, such"),
    "the manifest itself": (["--picked", "-o", "spring.yaml"], "spring.yaml: already exists, and was not changed."),
    "another batch's name": (
        ["--picked", "-o", "june/spring.yaml"],
        "june/spring.yaml: the new batch would be called 'spring', as the batch of ",
    ),
    "a name that no folder has": (
        ["--picked", "-o", "what?.yaml"],
        "what?.yaml: the videos go to a folder that is called as the file: the output path holds ?, which not every",
    ),
    "a name that no batch has": (["--picked", "-o", f"{'x' * 201}.yaml"], f"{'x' * 201}.yaml: the name of the file is"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_and_nothing_is_written(
    pilot: Table, batchgen: Command, options: list[str], message: str
) -> None:
    before = sorted(pilot.folder.rglob("*"))
    ended = batchgen("next", "spring.yaml", *options)
    assert ended.stderr.startswith(message)
    assert (ended.stdout, ended.returncode, sorted(pilot.folder.rglob("*"))) == ("", 2, before)


def test_no_file_is_replaced(pilot: Table, batchgen: Command) -> None:
    first, other = (
        batchgen("next", "spring.yaml", choice, "--reseed", "-o", "june.yaml") for choice in ("--picked", "--rejected")
    )
    assert first.stdout == "june.yaml: 1 job of spring\n"
    assert other.stderr == "june.yaml: already exists, and was not changed. Name another file with -o\n"
    assert list(jobs_of(pilot.folder / "june.yaml")) == ["mona"]
    assert [path.name for path in pilot.folder.iterdir() if "june" in path.name] == ["june.yaml"]


# --- another try -----------------------------------------------------------------------------------------------------


def seeds(path: Path) -> list[int]:
    return [request["seed"] for request in jobs_of(path).values()]


def test_new_seeds_are_the_same_every_time_and_no_seed_of_the_lineage(table: Table, batchgen: Command) -> None:
    for number in (1, 2):
        request = json.dumps({"model": SEEDED, "prompt": "p", "seed": number})
        table.add(spec(f"take-{number}", model=SEEDED, request=request, take=number))
        table.bring(State.DONE, f"take-{number}")
        say(table, **{f"take-{number}": REJECTED})
    again = ["next", "spring.yaml", "--rejected", "--reseed"]
    assert batchgen(*again, "-o", "june.yaml").returncode == 0
    first = seeds(table.folder / "june.yaml")
    assert len({1, 2, *first}) == 4
    # The seed that comes next was used by somebody already: by the batch itself.
    table.add(spec("used", model=SEEDED, request=json.dumps({"model": SEEDED, "prompt": "q", "seed": first[0]})))
    assert batchgen(*again, "-o", "july.yaml").returncode == 0
    second = seeds(table.folder / "july.yaml")
    assert second[1] == first[1]
    assert len({*first, *second}) == 3


def test_without_a_seed_each_job_becomes_a_take_behind_those_that_were_bought(table: Table, batchgen: Command) -> None:
    for number in (1, 2, 3):
        table.add(spec(f"take-{number}", take=number))
        table.bring(State.DONE, f"take-{number}")
    say(table, **{"take-1": REJECTED, "take-3": REJECTED})
    batchgen("next", "spring.yaml", "--rejected", "--reseed", "-o", "june.yaml")
    jobs = reader.read(table.folder / "june.yaml").jobs
    assert [(job.key, job.take) for job in jobs] == [("take-1", 4), ("take-3", 5)]


# --- services, endpoints, what was not checked -----------------------------------------------------------------------


def test_jobs_of_the_vendors_own_path_keep_it(table: Table, batchgen: Command) -> None:
    legacy = "/v2/generate/video/kling/generation"
    for key, endpoint in (("one", legacy), ("two", legacy), ("three", "/v2/video/generations")):
        table.add(spec(key, endpoint=endpoint))
        table.bring(State.DONE, key)
        say(table, **{key: PICKED})
    ended = batchgen("next", "spring.yaml", "--picked", "-o", "june.yaml")
    assert [job.endpoint for job in reader.read(table.folder / "june.yaml").jobs] == [legacy, legacy]
    assert ended.stderr.startswith("left out: 1 sent to /v2/video/generations, to which this manifest cannot lead\n")


def test_a_job_that_was_sent_unchecked_says_that_its_successor_is_too(table: Table, batchgen: Command) -> None:
    request = {
        "model": "someone/new",
        "prompt": "p",
        "image_url": "https://example.com/a.png",
        "tags": ["own"],
        "n": None,
    }
    table.add(spec(model="someone/new", request=json.dumps(request)))
    table.bring(State.DONE)
    say(table, mona=PICKED)
    ended = batchgen("next", "spring.yaml", "--picked", "-o", "june.yaml")
    assert ended.stderr.splitlines()[-1] == "Next: `batchgen plan june.yaml --no-validate`"
    (job,) = reader.read(table.folder / "june.yaml", validate=False).jobs
    assert json.loads(job.request) == request


def test_jobs_of_another_service_are_written_for_it(tmp_path: Path, plugins: None, batchgen: Command) -> None:
    (tmp_path / "spring.yaml").touch()
    with Database(tmp_path / "batchgen.db") as database:
        table = Table(database, tmp_path)
        table.add(spec(model="fast", endpoint=""))
        table.bring(State.DONE)
        say(table, mona=PICKED)
        table.change(lambda connection: connection.exec_driver_sql("UPDATE batches SET service = 'queueworks'"))
    assert batchgen("next", "spring.yaml", "--picked", "--model", "slow", "-o", "june.yaml").returncode == 0
    read = reader.read(tmp_path / "june.yaml")
    assert (read.service, read.jobs[0].model, read.jobs[0].endpoint) == ("queueworks", "slow", "")
