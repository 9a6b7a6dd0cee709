"""The architecture: imports point down, stages never import one another, each responsibility has one module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "batchgen"

LAYERS = (
    {"__init__", "errors", "clock", "jobs"},
    {"catalogue"},
    {"services", "manifest", "files"},
    {"jobtable"},
    {"limits"},
    {"context", "stage", "download", "scheduler", "poller", "downloader", "reconciler", "measurer"},
    {"runs", "runner", "dry_run", "billing", "simulator", "testing", "advice"},
    {"hooks"},
    {"api"},
    {"report", "review"},
    {"doctor", "export"},
    {"cli"},
    {"__main__"},
)
MODULES_BESIDE_THE_PACKAGES = 14
STAGES = {"scheduler", "poller", "downloader", "reconciler", "measurer"}
FUNCTION_WORDS = {"told", "asked", "given", "found", "known", "wanted", "each", "named", "which", "what", "all_"}
"""A name says what a thing is: `message`, `request`, `params`, `row`, …"""
LEDGER = {"jobs", "attempts", "events"}
CLOCK_READINGS = {
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "localtime", "gmtime"},
}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree_of(path)))


@cache
def sources(*folders: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for folder in folders or (PACKAGE,) for path in folder.rglob("*.py")))


def package_of(path: Path) -> str:
    """The package, or the module beside the packages, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


@cache
def is_module(name: str) -> bool:
    """Whether a dotted name is a module or a package of this repository."""
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").exists()


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports, anywhere in it; `from a import b` gives `a.b` where that is a module.

    The package itself imports its public names when they are first used; only type checkers see where from.
    """
    return frozenset() if path == PACKAGE / "__init__.py" else frozenset(imported_names(path))


def imported_names(path: Path) -> Iterator[str]:
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if is_module(inner) else node.module


def packages_imported(path: Path) -> set[str]:
    parts = (name.split(".") for name in imports(path))
    return {rest[0] if rest else "__init__" for first, *rest in parts if first == "batchgen"}


@cache
def calls(path: Path) -> tuple[tuple[str, str, ast.Call], ...]:
    """(what it is called on, name, call) of every call in a file; the first is empty for a bare function."""
    return tuple(calls_in(path))


def calls_in(path: Path) -> Iterator[tuple[str, str, ast.Call]]:
    for node in nodes_of(path):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name):
                    yield "", name, node
                case ast.Attribute(value=ast.Name(id=owner), attr=name):
                    yield owner, name, node
                case ast.Attribute(value=ast.Attribute(attr=owner), attr=name):
                    yield owner, name, node


def test_every_package_and_module_has_its_layer() -> None:
    assert {package_of(path) for path in sources()} == set().union(*LAYERS)


def test_at_most_fourteen_modules_stand_beside_the_packages() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MODULES_BESIDE_THE_PACKAGES


def test_imports_point_down_only() -> None:
    layer = {name: number for number, names in enumerate(LAYERS) for name in names}
    higher = [
        (module_of(path), other)
        for path in sources()
        for other in packages_imported(path)
        if layer[other] > layer[package_of(path)]
    ]
    assert not higher, "modules, and the packages of a higher layer that they import"


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_never_import_one_another(stage: str) -> None:
    others = STAGES - {stage}
    assert not others & packages_imported(PACKAGE / f"{stage}.py")


def test_only_the_command_line_imports_the_simulator() -> None:
    """A run finds it as it finds every service: by its entry point."""
    callers = {package_of(path) for path in sources() if "simulator" in packages_imported(path)}
    assert callers <= {"simulator", "cli"}


def test_no_module_imports_the_plug_in_of_a_service() -> None:
    """Plug-ins are loaded by their entry points, when a manifest names them."""
    plugins = {"batchgen.services.aimlapi", "batchgen.services.answers"}
    callers = {package_of(path) for path in sources() if plugins & imports(path)}
    assert callers <= {"services", "simulator"}


SERVICE_NAME = re.compile(r"aimlapi|ai/?ml|kling", re.IGNORECASE)
SIMULATOR_AS_A_SERVICE = re.compile(r"simulator|.*service: simulator.*", re.DOTALL)
NAMES_SERVICES = {"services", "simulator", "catalogue"}
"""Plug-ins, their registry, and the catalogue, which is data of the models."""


def names_and_strings(path: Path) -> Iterator[tuple[int, str]]:
    """The names, the attributes and the strings of a file, with their lines."""
    for node in nodes_of(path):
        match node:
            case ast.Constant(value=str(text)):
                yield node.lineno, text
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name


def test_no_service_is_named_outside_the_plug_ins() -> None:
    offences = [
        (f"{path}:{line}", text)
        for path in sources()
        if package_of(path) not in NAMES_SERVICES
        for line, text in names_and_strings(path)
        if SERVICE_NAME.search(text) or SIMULATOR_AS_A_SERVICE.fullmatch(text)
    ]
    assert not offences, "take the name of a service from `services/registry.py`"


SHARED_SIMULATOR = sorted((PACKAGE / "simulator").glob("*.py"))
KNOW_THE_APIS = {"server.py", "plugin.py"}  # they join the API of a service with the rest
WORDS_OF_A_SERVICE = ("/v1/", "/v2/", '"queued"', '"generating"', "inference_id", "image_url", "credits_used")


def test_no_shared_module_of_the_simulator_imports_the_api_of_a_service() -> None:
    offenders = [
        path.name
        for path in SHARED_SIMULATOR
        if path.name not in KNOW_THE_APIS and any("aimlapi" in name.split(".") for name in imports(path))
    ]
    assert not offenders


def test_no_shared_module_of_the_simulator_has_a_path_or_a_status_word_of_a_service() -> None:
    text_of = {path.name: path.read_text("utf-8") for path in SHARED_SIMULATOR}
    assert not [(name, word) for name, text in text_of.items() for word in WORDS_OF_A_SERVICE if word in text]


def test_there_are_no_import_cycles() -> None:
    names = {module_of(path): path for path in sources()}
    graph = {name: {other for other in imports(path) if other in names} - {name} for name, path in names.items()}
    for package, path in names.items():
        if path.name == "__init__.py":
            # An __init__ may re-export names of its modules; the modules import one another directly.
            for name in names:
                if name.startswith(f"{package}."):
                    graph[name].discard(package)
    while leaves := {name for name, others in graph.items() if not others}:
        graph = {name: others - leaves for name, others in graph.items() if name not in leaves}
    assert not graph


def test_only_the_job_table_writes_jobs_attempts_and_events() -> None:
    writers = set()
    for path in sources():
        for owner, name, call in calls(path):
            if name in {"insert", "update", "delete"}:
                target = call.args[0] if call.args and not owner else None
                table = target.id if isinstance(target, ast.Name) else owner
                if table in LEDGER:
                    writers.add(package_of(path))
    assert writers == {"jobtable"}


def test_no_module_writes_the_ledger_in_plain_sql() -> None:
    for path in sources():
        for node in nodes_of(path):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = " ".join(node.value.split()).upper()
                for table in LEDGER:
                    for statement in (f"INSERT INTO {table}", f"UPDATE {table} SET", f"DELETE FROM {table}"):
                        assert statement.upper() not in text, f"{path}:{node.lineno}"


def test_history_is_never_deleted() -> None:
    for path in sources(PACKAGE / "jobtable"):
        assert not [name for _, name, _ in calls(path) if name in {"delete", "drop", "truncate"}]


def test_only_one_module_makes_engines() -> None:
    makers = {module_of(path) for path in sources() for _, name, _ in calls(path) if name.endswith("create_engine")}
    assert makers == {"batchgen.jobtable.engine"}


def test_the_http_client_is_imported_only_where_it_sends_and_where_its_failures_are_named() -> None:
    importers = {module_of(path) for path in sources() if "httpx2" in {name.split(".")[0] for name in imports(path)}}
    assert importers == {"batchgen.services.http", "batchgen.services.failures"}
    assert {package_of(path) for path in sources() if "batchgen.services.http" in imports(path)} <= {
        "services",
        "download",
    }


def test_no_command_queries_the_database() -> None:
    offences = [
        (module_of(path), name)
        for path in sources(PACKAGE / "cli")
        for name in imports(path)
        if name == "batchgen.jobtable.schema" or name.split(".")[0] == "sqlalchemy"
    ]
    assert not offences, "the query of a command is a function of `jobtable/`"


def test_only_the_command_line_and_the_reports_print() -> None:
    printers = set()
    for path in sources():
        for node in nodes_of(path):
            match node:
                case ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "stderr"):
                    printers.add(module_of(path))
        if {(owner, name) for owner, name, _ in calls(path)} & {("", "print"), ("click", "echo"), ("", "input")}:
            printers.add(module_of(path))
    packages = {name.split(".")[1] for name in printers}
    assert packages <= {"cli", "report", "__main__"}  # where Ctrl-C may come before any of them is imported


def test_only_one_module_writes_lines_so_that_none_can_control_the_terminal() -> None:
    """`report/terminal.py` writes to the streams themselves, through an `OutputStream`."""
    writers = {
        module_of(path) for path in sources() for owner, name, _ in calls(path) if (owner, name) == ("click", "echo")
    }
    assert not writers


def test_only_the_clock_reads_the_clock() -> None:
    readers = {
        module_of(path)
        for path in sources(PACKAGE, ROOT / "migrations")
        for owner, name, _ in calls(path)
        if name in CLOCK_READINGS.get(owner, ())
    }
    assert readers == {"batchgen.clock"}
    importers = {module_of(path) for path in sources() if "time" in imports(path)}
    assert not importers, "`import time` would hide a reading of the clock from this test"


SQL_CLOCK = re.compile(
    r"\b(current_(timestamp|time|date)|localtimestamp|clock_timestamp)\b|\bnow\(\)|'now'", re.IGNORECASE
)


def test_sql_reads_the_clock_only_to_learn_that_of_the_server() -> None:
    readers = set()
    for path in sources(PACKAGE, ROOT / "migrations"):
        texts = {
            node.value for node in nodes_of(path) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        functions = {f"{name}()" for owner, name, _ in calls(path) if owner == "func"}
        if any(map(SQL_CLOCK.search, texts | functions)):
            readers.add(module_of(path))
        keywords = {node.arg for node in nodes_of(path) if isinstance(node, ast.keyword)}
        assert not keywords & {"server_default", "onupdate"}
    assert readers == {"batchgen.jobtable.database"}


def test_only_the_runner_sleeps() -> None:
    """Exceptions: the progress display waits for the run's end, the simulator imitates a slow service, a
    service waits before a later page of its log, and the conformance suite for runs that it kills."""
    sleepers = {
        package_of(path)
        for path in sources()
        for owner, name, _ in calls(path)
        if (owner, name) in {("asyncio", "sleep"), ("time", "sleep"), ("asyncio", "wait_for"), ("anyio", "sleep")}
    }
    assert sleepers <= {"runner", "report", "services", "simulator", "testing"}


def test_the_package_imports_no_tests_and_no_test_tools() -> None:
    imported = {name.split(".")[0] for path in sources() for name in imports(path)}
    assert not imported & {"tests", "pytest", "hypothesis", "freezegun", "unittest"}


def test_nothing_is_named_by_a_function_word() -> None:
    offences = []
    for path in sources():
        for node in nodes_of(path):
            match node:
                case (
                    ast.FunctionDef(name=name)
                    | ast.AsyncFunctionDef(name=name)
                    | ast.arg(arg=name)
                    | ast.Name(id=name, ctx=ast.Store())
                ) if name in FUNCTION_WORDS:
                    offences.append(f"{path}:{node.lineno}: {name}")
    assert not offences, "name these for what they are, by a noun or a verb of the domain"
