"""The files in `tests/deploy/`: their commands, variables, exit codes and extras are those of this batchgen."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore.store
import pytest
import yaml

from batchgen.cli import load
from batchgen.errors import ExitCode
from batchgen.files.output_paths import is_url
from batchgen.files.placing import SCRATCH_VARIABLE
from batchgen.manifest import reader
from batchgen.services.account import ALLOW_HTTP
from batchgen.services.aimlapi import VARIABLES

DEPLOY = Path(__file__).parent / "deploy"
ROOT = DEPLOY.parents[1]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
OWN = {"BATCHGEN_DB", SCRATCH_VARIABLE, ALLOW_HTTP, VARIABLES.key, VARIABLES.base_url}
SECRETS = {"BATCHGEN_DB", VARIABLES.key, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def services() -> dict[str, Any]:
    return dict(read("compose.yaml")["services"])


def pod() -> Any:
    return read("job.yaml")["spec"]["template"]["spec"]


def worker() -> Any:
    (container,) = pod()["containers"]
    return container


def commands() -> Iterator[list[str]]:
    """Every command of batchgen that the files start, or tell a person to type."""
    yield from (service["command"] for service in services().values() if "build" in service)
    yield worker()["args"]
    text = (DEPLOY / "compose.yaml").read_text()
    yield from (typed.split() for typed in re.findall(r"docker compose run --rm worker (.+)", text))


def is_of_store(name: str) -> bool:
    """Whether the library of the stores reads a variable: it refuses names that it does not know."""
    if name == "AWS_ALLOW_HTTP":
        return True  # of its client
    config: Any = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", name: "x"}
    obstore.store.S3Store("clips", config=config)
    return True


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_command_is_one_of_this_batchgen(command: list[str]) -> None:
    name, *arguments = (word.replace("/batch", str(DEPLOY / "batch")) for word in command)
    assert load(name).make_context(name, arguments).params


def test_the_images_program_is_batchgen_and_its_user_is_not_root() -> None:
    assert json.loads(re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)[-1]) == ["batchgen"]
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)[-1] == "batchgen"
    assert DOCKERFILE.index("\nUSER") < DOCKERFILE.index("\nENTRYPOINT")
    uid = re.search(r"--uid (\d+)", DOCKERFILE)
    assert uid
    assert pod()["securityContext"]["runAsUser"] == int(uid[1]) > 0
    variables = re.findall(r"\b(BATCHGEN_\w+)=", DOCKERFILE)
    assert set(variables) <= OWN


def test_the_image_has_the_extras_that_the_workers_need() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"\[([a-z,]+)\]\"", DOCKERFILE)
    assert named == ["postgres,cloud"] * 2 and {"postgres", "cloud"} <= set(extras)


def test_the_image_is_built_from_the_parts_of_the_wheel_and_nothing_else() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert (rules[0], rules[-1]) == ("*", "**/__pycache__")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    parts = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"]}
    assert {rule.removeprefix("!") for rule in rules[1:-1]} == {
        *parts,
        *project["project"]["license-files"],
        "pyproject.toml",
    }


def test_every_variable_is_read_by_batchgen_or_its_library() -> None:
    names = set(services()["worker"]["environment"]) | {entry["name"] for entry in worker()["env"]}
    assert {"BATCHGEN_DB", "AWS_ACCESS_KEY_ID"} <= names
    assert all(name in OWN or is_of_store(name) for name in names)
    with pytest.raises(Exception, match="aws_endpoint_address"):
        is_of_store("AWS_ENDPOINT_ADDRESS")


def test_the_jobs_secrets_are_references() -> None:
    secret = {entry["name"] for entry in worker()["env"] if "secretKeyRef" in entry.get("valueFrom", {})}
    assert secret == SECRETS


def test_a_worker_has_time_to_end_in_good_order_and_a_job_stops_only_for_a_person() -> None:
    assert pod()["terminationGracePeriodSeconds"] == 300
    assert services()["worker"]["stop_grace_period"] == "5m"
    rules = {rule["action"]: rule for rule in read("job.yaml")["spec"]["podFailurePolicy"]["rules"]}
    codes = set(rules["FailJob"]["onExitCodes"]["values"])
    # A service that does not answer may answer a new pod.
    stops = {code for code in ExitCode if code.recurs} - {ExitCode.UNREACHABLE}
    assert codes == stops, "tests/deploy/job.yaml fails the Job with each code of ExitCode that recurs"
    assert pod()["restartPolicy"] == "Never"  # a policy for failures needs it


def test_the_manifest_of_the_workers_stores_its_videos_where_all_can_reach_them() -> None:
    valid = reader.read(DEPLOY / "batch" / "clips.yaml")
    assert len(valid.jobs) == 12
    assert all(is_url(job.output) for job in valid.jobs)
    assert services()["store"]["entrypoint"][-1].count("/data/clips ") == 1


def test_the_workers_folders_are_those_of_the_image() -> None:
    assert {mount["mountPath"] for mount in worker()["volumeMounts"]} == {"/batch", "/scratch", "/tmp"}
    assert services()["worker"]["volumes"] == ["./batch:/batch:ro"]
    assert "BATCHGEN_SCRATCH=/scratch" in DOCKERFILE
