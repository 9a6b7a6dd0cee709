"""The benchmarks work at tiny sizes, and their READMEs are what their command writes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.benchmarks import readme
from tests.benchmarks.__main__ import PARTS
from tests.benchmarks.measure import Figure, run
from tests.benchmarks.peers import PEERS, Peer
from tests.conftest import Simulate
from tests.readme_blocks import block_names, read_block, write_block


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.what)
def test_every_peer_delivers_its_jobs(peer: Peer, simulate: Simulate) -> None:
    if not peer.is_installed:
        pytest.skip(f"{peer.package} is not installed; it comes with the extra `bench`")
    service = simulate("--instant", "--speed", "100000")
    assert float(run(sys.executable, "-m", peer.module, service.base_url, "3").stdout.splitlines()[-1]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("part", ["startup", "demo", "memory", "downloads"])
def test_a_quick_run_of_a_part_prints_its_table(part: str) -> None:
    lines = run(sys.executable, "-m", "tests.benchmarks", part, "--quick").stdout.splitlines()
    assert lines[:2] == readme.HEAD.splitlines()
    assert all(line.count(" | ") == 3 for line in lines[2:] if line)
    assert len(lines) > 3
    assert part != "demo" or " s for 8 clips |" in lines[2]


def test_the_figures_of_a_quick_run_are_never_written() -> None:
    with pytest.raises(SystemExit, match="figures of a quick run mean nothing"):
        run(sys.executable, "-m", "tests.benchmarks", "startup", "--quick", "--write")


def test_the_readme_has_a_table_for_every_part_in_the_order_of_the_command() -> None:
    assert block_names(readme.TABLES) == list(PARTS)


def test_writing_a_part_replaces_its_table_and_keeps_the_prose_and_the_other_parts(tmp_path: Path) -> None:
    tables, top = tmp_path / "tables.md", tmp_path / "top.md"
    rest = "<!-- /one -->\n\nprose\n\n<!-- two -->\nkept\n<!-- /two -->\nend\n"
    tables.write_text(f"# Title\n\n<!-- one -->\nstale\n{rest}")
    top.write_text("no block\n")
    readme.write("one", [Figure("a", "1 ms", "≤ 2 ms", True), Figure("b", "3 ms", "≤ 2 ms", False)], tables, top)
    text = tables.read_text()
    assert "stale" not in text
    assert "| a | 1 ms | ≤ 2 ms | yes |\n| b | 3 ms | ≤ 2 ms | **no** |\n\nMeasured 20" in text
    assert text.startswith("# Title\n\n<!-- one -->\n| what |")
    assert text.endswith(rest)
    assert top.read_text() == "no block\n"


def test_a_part_without_a_place_in_the_readme_is_refused(tmp_path: Path) -> None:
    tables = tmp_path / "tables.md"
    tables.write_text("no block\n")
    with pytest.raises(LookupError, match="has no block <!-- one -->"):
        readme.write("one", [], tables, tables)


def test_the_headlines_of_the_top_readme_are_copied_from_the_tables(tmp_path: Path) -> None:
    tables, top = tmp_path / "tables.md", tmp_path / "top.md"
    shutil.copy(readme.TABLES, tables)
    top.write_text("before\n<!-- figures -->\n<!-- /figures -->\nafter\n")
    readme.write("makespan", [Figure(what, "12345 ms", "≤ 8 ms", True) for what in readme.HEADLINES], tables, top)
    rows = (read_block(top, readme.HEADLINE_BLOCK) or "").splitlines()
    assert [row for row in rows if "12345 ms" in row] == [
        f"| {what} | 12345 ms | ≤ 8 ms | yes |" for what in readme.HEADLINES
    ]


def test_the_top_readme_shows_the_same_figures_as_the_tables() -> None:
    shown = read_block(readme.TOP, readme.HEADLINE_BLOCK)
    if shown is None:
        pytest.skip("the top README has no block `figures` yet")
    assert shown == readme.headlines(), "python -m tests.benchmarks PART --write puts them in step"


def test_every_headline_is_the_first_cell_of_a_measured_row() -> None:
    """A row that is renamed would leave the top README without its figure."""
    text = readme.TABLES.read_text()
    if "Not measured yet" in text:
        pytest.skip("the tables have not been written yet")
    assert len(readme.headlines().splitlines()) == 2 + len(readme.HEADLINES)


def test_a_block_is_found_by_its_whole_name(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("<!-- in -->\n1\n<!-- /in -->\n<!-- in_flight -->\n2\n<!-- /in_flight -->\n")
    write_block(path, "in", "new")
    assert (read_block(path, "in"), read_block(path, "in_flight"), read_block(path, "flight")) == ("new", "2", None)
