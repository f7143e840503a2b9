"""CONTRIBUTING.md: its diffs apply, in their order, and what it says to run then runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """A copy of the sources with every diff applied; returns what runs a command in it."""
    root = tmp_path_factory.mktemp("newcomer")
    for folder in ("src", "notebooks"):
        shutil.copytree(ROOT / folder, root / folder)  # with what numba has compiled
    for name in ("_toc.yml", "_config.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    (root / "book").mkdir()
    environment = {"PYTHONPATH": str(root / "src"), "WRNN_RECORDS": str(ROOT / "records")}

    def run(*command: str, text: str | None = None) -> str:
        done = subprocess.run(
            command,
            input=text,
            cwd=root,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    for diff in blocks("diff"):
        run("git", "apply", "--whitespace=error", "-", text=diff)
    return run


def test_its_diffs_are_in_the_style_of_the_project(newcomer):
    newcomer(sys.executable, "-m", "ruff", "check", ".")
    newcomer(sys.executable, "-m", "ruff", "format", "--check", ".")


def test_a_new_model_trains_on_a_new_task_and_a_new_claim_is_judged(newcomer):
    printed = newcomer(sys.executable, "-c", "\n".join(blocks("python"))).splitlines()
    assert re.fullmatch(r"first number \(T = 20\) · .* {'mse': 0\.\d+}", printed[0])
    assert any(re.match(r"wrnn-mlp-psmnist: [a-z ]+, \S", line) for line in printed[1:])


def test_a_new_experiment_and_its_chapter_are_made(newcomer):
    commands = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    assert [command[:2] for command in commands] == [["wrnn", "run"], ["wrnn", "book"]]
    for _, *arguments in commands:
        printed = newcomer(sys.executable, "-m", "companion", *arguments)
    table = Path(printed.splitlines()[-1]).parent / "generated" / "tab-kernels.md"
    assert "| 7 |" in table.read_text() and "(smoke, n = 1)" in table.read_text()
