"""What is shared by all simulated services stays apart from the API of one."""

from __future__ import annotations

import ast
from pathlib import Path

from batchgen import simulator

PACKAGE = Path(simulator.__file__).parent
APIS = {"aimlapi"}
KNOW_THE_APIS = {"server.py", "plugin.py"}  # they join an API with the rest


def test_no_shared_module_imports_the_api_of_a_service() -> None:
    for path in PACKAGE.glob("*.py"):
        names = {alias.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) for alias in aliases(node)}
        assert not names & APIS or path.name in KNOW_THE_APIS, path


def aliases(node: ast.AST) -> list[ast.alias]:
    """The imported names, and each part of the modules that they are imported from."""
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return []
    module = node.module if isinstance(node, ast.ImportFrom) else None
    return [*node.names, *(ast.alias(part) for part in (module or "").split("."))]


def test_no_shared_module_has_a_path_or_a_status_word_of_a_service() -> None:
    for path in PACKAGE.glob("*.py"):
        text = path.read_text("utf-8")
        for word in ("/v1/", "/v2/", '"queued"', '"generating"', "inference_id", "image_url", "credits_used"):
            assert word not in text, path
