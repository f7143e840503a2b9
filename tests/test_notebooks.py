"""The sources of the chapters as code."""

import ast
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


def names(tree: ast.AST, context: type) -> set[str]:
    """Names that are read (ast.Load) or bound (ast.Store) somewhere in a piece of code."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    read = {node.id for node in found if isinstance(node.ctx, context)}
    return read | bound if context is ast.Store else read


def left_over(source: str) -> set[str]:
    """Variables of a finished loop that a later statement reads, whatever the last round left."""
    leaked: set[str] = set()
    of_loops: set[str] = set()
    for statement in ast.parse(source).body:
        leaked |= (of_loops & names(statement, ast.Load)) - names(statement, ast.Store)
        of_loops -= names(statement, ast.Store)
        loops = [node for node in ast.walk(statement) if isinstance(node, ast.For)]
        if not isinstance(statement, ast.FunctionDef):
            of_loops |= {name for loop in loops for name in names(loop.target, ast.Store)}
    return leaked


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_is_read_from_a_loop_that_has_ended(path):
    """A caption once took its device from the last result of the loop before it."""
    assert left_over(path.read_text(encoding="utf-8")) == set()


def test_a_left_over_variable_is_found():
    assert left_over("for r in results:\n    use(r)\nsay(r.device)") == {"r"}
    assert left_over("for r in results:\n    use(r)\nsay([r.device for r in results])") == set()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_line_of_prose_is_a_comment(path):
    """A line that began with the sign for per cent was left out of the page."""
    assert "\n# % " not in path.read_text(encoding="utf-8")
