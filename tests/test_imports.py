"""The rooms of the project: who may import whom, and what an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
# A room may import those before it in this list; `book` stands apart and needs errors only.
ORDER = (
    *("wrnn", "runs", "records", "training", "evidence", "page"),
    *("bench", "kernels", "hours", "first_hour", "cli"),
)
MODULES = sorted(path for path in SOURCE.rglob("*.py") if "egg-info" not in str(path))


def room(module: str) -> str:
    """The room of a dotted module name."""
    first, _, rest = module.partition(".")
    return rest.split(".")[0] if first == "companion" else first


def imports(path: Path) -> set[str]:
    """Every module of this project that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("wrnn", "companion")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    here = room(".".join(path.relative_to(SOURCE).with_suffix("").parts))
    for name in imports(path):
        there = room(name)
        if here in ("", "__main__", "__init__") or there in ("", here):
            continue
        if here == "book":
            assert name.startswith("wrnn.errors"), f"book imports {name}"
        elif there == "book":
            assert here == "cli", f"{here} imports {name}"
        else:
            assert ORDER.index(there) <= ORDER.index(here), f"{here} imports {name}"


def test_import_wrnn_takes_torch_and_numpy_only():
    heavy = (
        "pandas",
        "matplotlib",
        "torchvision",
        "scipy",
        "typer",
        "numba",
        "triton",
        "companion",
    )
    code = f"import sys, wrnn; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
