"""`batchgen run`, from a manifest to whole videos on the disk."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

import pytest

from tests.batches import (
    MASTER,
    STANDARD,
    Bill,
    Eavesdropper,
    check_delivered,
    data_uri,
    image_in,
    probe,
    write_image,
    write_manifest,
)
from tests.conftest import Command, Simulate
from tests.waiting import JOBS, rows

ENDPOINTS = {"universal": "/v2/video/generations", "legacy": "/v2/generate/video/kling/generation"}


def test_the_demo_brings_eight_different_playable_videos_and_a_second_run_asks_for_nothing(
    manifests: Path, batchgen: Command
) -> None:
    folder = manifests
    first = batchgen("run", folder / "demo.yaml")
    assert (first.returncode, first.stdout.count("\n")) == (0, 1)
    assert first.stdout.startswith("demo-simulated: 8 done; ")
    assert "(simulated); every job is delivered" in first.stdout
    database = folder / "batchgen.db"
    check_delivered(folder, database)

    jobs = rows(database, JOBS)
    assert len({job["sha256"] for job in jobs}) == 8
    for job in jobs:
        asked = json.loads(job["request"])
        width, height, frames = probe(folder / job["output_path"])
        seconds = asked["duration"]
        assert frames > 0
        assert width % 2 == height % 2 == 0
        if "image_url" in asked:
            shown = image_in((folder / asked["image_url"]).read_bytes())
            assert width / height == pytest.approx(shown[0] / shown[1], rel=0.02)
        else:
            assert width / height == pytest.approx(9 / 16, rel=0.02)
        assert seconds in (5, 10)

    bill = Bill(folder / "batchgen.db.simulator")
    assert (len(bill.accepted), bill.duplicates, len(bill.requests("cdn"))) == (8, 0, 8)
    before = rows(bill.ledger, "SELECT count(*) AS n FROM requests WHERE kind IN ('create', 'fetch', 'cdn', 'log')")
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    second = batchgen("run", folder / "demo.yaml")
    assert second.stdout == first.stdout
    assert (
        rows(bill.ledger, "SELECT count(*) AS n FROM requests WHERE kind IN ('create', 'fetch', 'cdn', 'log')")
        == before
    )
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")} == files


@pytest.mark.slow
@pytest.mark.parametrize("style", ENDPOINTS)
def test_both_seed_models_take_local_images_byte_for_byte_on_either_path(
    style: str, tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate(speed=2_000)
    picture = write_image(tmp_path / "in/picture one.png", 320, 240)
    mask = write_image(tmp_path / "in/mask.png", 320, 240, "white")
    jobs = [
        {
            "id": "standard",
            "model": STANDARD,
            "prompt": 'Größe, 大きさ "quoted"',
            "image_url": "in/picture one.png",
            "negative_prompt": "blur",
            "cfg_scale": 0.25,
            "static_mask": "in/mask.png",
            "duration": "10",
        },
        {
            "id": "master",
            "model": MASTER,
            "prompt": "A storm.",
            "image_url": "https://images.invalid/storm.jpg",
            "camera_control": {"type": "simple", "config": {"zoom": 4}},
            "duration": 5,
        },
    ]
    write_manifest(tmp_path / "m.yaml", jobs, service={"name": "aimlapi", "endpoint": style}, defaults={})
    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 0, ended.stderr
    check_delivered(tmp_path, tmp_path / "batchgen.db")

    bill = Bill(simulator.ledger)
    assert {row["endpoint"] for row in bill.accepted} == {ENDPOINTS[style]}
    assert {request["path"] for request in bill.requests("fetch")} == {ENDPOINTS[style]}
    sent = {body["model"]: body for body in bill.bodies()}
    assert sent[STANDARD]["prompt"] == jobs[0]["prompt"]
    assert (sent[STANDARD]["duration"], sent[STANDARD]["cfg_scale"]) == (10, 0.25)
    assert sent[MASTER] == {key: value for key, value in jobs[1].items() if key != "id"}
    came = {bytes(row["content"]) for row in rows(simulator.ledger, "SELECT content FROM images")}
    assert picture in came
    pinned = next(job for job in rows(tmp_path / "batchgen.db", JOBS) if job["key"] == "standard")
    assert json.loads(pinned["request"])["image_url"] == "in/picture one.png"
    assert json.loads(pinned["input_digests"])["in/mask.png"]["sha256"] == hashlib.sha256(mask).hexdigest()


@pytest.mark.slow
def test_a_create_request_carries_local_files_as_data_uris(tmp_path: Path, batchgen: Command) -> None:
    """Read from the socket itself, beside any simulator."""
    picture = write_image(tmp_path / "a.png", 64, 64)
    write_manifest(
        tmp_path / "m.yaml", [{"id": "one", "prompt": "x", "image_url": "a.png"}], defaults={"model": MASTER}
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        heard = Eavesdropper(server)
        heard.start()
        environment = {"AIMLAPI_BASE_URL": f"http://127.0.0.1:{port}", "AIMLAPI_API_KEY": "abc"}
        ended = batchgen("run", "m.yaml", **environment)
        heard.join(5)
    assert ended.returncode == 3
    head, _, body = heard.request.partition(b"\r\n\r\n")
    assert b"authorization: bearer abc" in head.lower()
    assert json.loads(body) == {"model": MASTER, "prompt": "x", "image_url": data_uri(picture, "image/png")}


@pytest.mark.slow
def test_the_job_table_lies_where_it_is_told_or_beside_the_manifest(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    (tmp_path / "elsewhere").mkdir()
    key_beside = "\n".join(f"{name}={value}" for name, value in simulator.environment.items())
    cases: list[tuple[str, tuple[str, ...], dict[str, str], str]] = [
        ("beside", (), {}, "beside/batchgen.db"),
        ("path", ("--db", "elsewhere/jobs.sqlite"), {}, "elsewhere/jobs.sqlite"),
        ("url", ("--db", f"sqlite:///{tmp_path}/elsewhere/url.db"), {}, "elsewhere/url.db"),
        ("environment", (), {"BATCHGEN_DB": "elsewhere/environment.db"}, "elsewhere/environment.db"),
    ]
    for name, options, environment, place in cases:
        manifest = write_manifest(tmp_path / name / "m.yaml", [{"id": "clip-0", "prompt": name}], batch=name)
        (manifest.parent / ".env").write_text(key_beside)
        ended = batchgen("run", manifest.relative_to(tmp_path), *options, **environment)
        assert ended.returncode == 0, ended.stderr
        beside = {path.name for path in manifest.parent.iterdir()}
        check_delivered(manifest.parent, tmp_path / place)
        assert (manifest.parent / name / "clip-0.mp4").exists()
        assert beside == {".batchgen", ".env", name, "m.yaml", *([Path(place).name] if name == "beside" else [])}
    assert len(Bill(simulator.ledger).accepted) == len(cases)


def test_without_a_key_nothing_is_written_and_the_message_says_what_to_set(tmp_path: Path, batchgen: Command) -> None:
    write_manifest(tmp_path / "m.yaml")
    before = set(tmp_path.iterdir())
    ended = batchgen("run", "m.yaml")
    assert (ended.returncode, ended.stdout) == (4, "")
    assert "AIMLAPI_API_KEY" in ended.stderr
    assert "--simulate" in ended.stderr
    assert set(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_simulate_touches_nothing_real_of_a_manifest(tmp_path: Path, batchgen: Command) -> None:
    write_manifest(tmp_path / "m.yaml", 2, service={"name": "aimlapi", "endpoint": "universal"})
    ended = batchgen("run", "m.yaml", "--simulate")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("m-simulated: 2 done; ")
    assert sorted(path.name for path in (tmp_path / "simulated/m").iterdir()) == ["clip-0.mp4", "clip-1.mp4"]
    assert not (tmp_path / "m").exists()
    check_delivered(tmp_path, tmp_path / "batchgen.db")


@pytest.mark.slow
def test_the_key_is_nowhere(tmp_path: Path, simulate: Simulate, batchgen: Command) -> None:
    faults = {
        "create": {
            "reject_400": {"count": 1},
            "accept_then_500": {"count": 1},
            "throttle_429": {"count": 1, "retry_after": 1},
        },
        "cdn": {"redirect": {"count": 2}, "expired_403": {"count": 1}, "html_200": {"count": 1}},
        "fetch": {"drop": {"count": 2}, "500": {"count": 1}},
    }
    simulator = simulate("--lag", "0", faults=faults, speed=600)
    key = simulator.environment["AIMLAPI_API_KEY"]
    write_manifest(tmp_path / "m.yaml", 6, limits={"submits_per_minute": 60_000, "unconfirmed_minutes": 0.01})
    said = ""
    for options in ((), ("--json",)):
        ended = batchgen("run", "m.yaml", "--log-file", "run.log", *options, **simulator.environment)
        said += ended.stdout + ended.stderr
    said += batchgen("status", "m.yaml", "--json", **simulator.environment).stdout
    assert "run.log" in {path.name for path in tmp_path.iterdir()}
    assert key not in said
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert key.encode() not in path.read_bytes(), path
    assert not rows(simulator.ledger, "SELECT * FROM requests WHERE key_leaked")


@pytest.mark.slow
def test_a_create_that_failed_at_the_service_is_sent_again_although_its_row_in_the_log_has_an_id(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate("--lag", "0", faults={"create": {"refuse_500": {"probability": 1, "count": 1}}})
    write_manifest(tmp_path / "m.yaml")
    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 0, ended.stderr
    assert "the service's log shows that it failed there" in ended.stderr
    assert len(Bill(simulator.ledger).accepted) == 1
