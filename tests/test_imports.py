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
    *("bench", "gpu_code", "hours", "first_hour", "cli"),
)
FREE = ("", "__main__", "__init__")
HEAVY = {"pandas", "matplotlib", "torchvision", "scipy", "typer", "numba", "triton"}


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


def test_imports_point_one_way():
    modules = [path for room in ("wrnn", "companion") for path in (SOURCE / room).rglob("*.py")]
    for path in modules:
        here = room(".".join(path.relative_to(SOURCE).with_suffix("").parts))
        for name in imports(path):
            there = room(name)
            if here in FREE or there in ("", here):
                continue
            if here == "book":
                assert name.startswith("wrnn.errors"), f"book imports {name}"
            elif there == "book":
                assert here == "cli", f"{path} imports {name}"
            else:
                assert ORDER.index(there) <= ORDER.index(here), f"{path} imports {name}"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import wrnn; wrnn.WaveRNN, wrnn.init", HEAVY),
        ("from companion.cli import main; main()", {*HEAVY - {"typer"}, "torch.nn"}),
    ],
    ids=["wrnn", "wrnn status"],
)
def test_what_an_import_takes(code, heavy, tmp_path):
    """The models and tasks take torch and numpy; `wrnn status` does without torch, too."""
    code = f"""
import atexit, sys
sys.argv[1:] = ["status"]
atexit.register(lambda: print(sorted({heavy!r} & sys.modules.keys())))
{code}"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"
