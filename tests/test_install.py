"""The install: every pin with its hashes, and what make takes from which index."""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from companion.__main__ import NEEDS, check_versions

ROOT = Path(__file__).resolve().parents[1]
FILES = ("Makefile", "constraints.txt", "requirements.txt")
# A project that needs nothing to be built, in place of this one.
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "wrnn"
version = "0"
"""
BACKEND = """
import zipfile
def build_editable(folder, *_):
    with zipfile.ZipFile(f"{folder}/wrnn-0-py3-none-any.whl", "w") as wheel:
        metadata = "Metadata-Version: 2.1\\nName: wrnn\\nVersion: 0\\n"
        wheel.writestr("wrnn-0.dist-info/METADATA", metadata)
        wheel.writestr("wrnn-0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("wrnn-0.dist-info/RECORD", "")
    return "wrnn-0-py3-none-any.whl"
"""


HERE = ".".join(map(str, sys.version_info[:2]))


def pins(name: str, python: str = HERE) -> dict[str, Requirement]:
    """The pins of a file that are for a Python and this system, by canonical name."""
    on = {"python_version": python, "python_full_version": f"{python}.1"}
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = re.findall(r"^[a-zA-Z][^\\\n]*", text, re.MULTILINE)
    found = {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}
    assert len(found) == len(lines), f"{name} pins something twice"
    return {n: pin for n, pin in found.items() if not pin.marker or pin.marker.evaluate(on)}


def test_the_versions_that_training_asks_for_are_those_of_the_package():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = dict(need.split(">=") for need in wanted)
    assert {name: least for name, least in wanted.items() if name != "numba"} == NEEDS


def test_an_old_package_is_named_and_a_missing_one_ends_the_command(monkeypatch, capsys):
    found = NEEDS | {"typer": "0.15.4"}
    monkeypatch.setattr("companion.__main__.version", found.__getitem__)
    check_versions()
    assert capsys.readouterr().err == "wrnn: typer 0.15.4 is older than the 0.29 asked for\n"

    def missing(name):
        raise PackageNotFoundError

    monkeypatch.setattr("companion.__main__.version", missing)
    with pytest.raises(SystemExit, match="filelock is missing"):
        check_versions()


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_requirements_are_the_pins_with_hashes(python):
    versions = {name: str(pin.specifier) for name, pin in pins("constraints.txt", python).items()}
    hashed = {name: str(pin.specifier) for name, pin in pins("requirements.txt", python).items()}
    assert hashed == versions, "run make pins"
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z])", text)
    bare = [e.split()[0] for e in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", e)]
    assert bare == []
    assert "://" not in text, "an index is written down"


def write_wheel(folder: Path, name: str, version: str, needs: str = "") -> str:
    """Put an empty wheel into a package index that is a folder; returns its requirement."""
    info = f"{name}-{version}.dist-info"
    (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / name / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    (folder / name / "index.html").write_text(f'<a href="{path.name}">{path.name}</a>')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


@pytest.fixture
def install(tmp_path):
    """Run make's install from two stand-in indexes; returns what it printed and installed."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    for name in FILES:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    main, cpu, pinned = tmp_path / "main", tmp_path / "cpu", pins("constraints.txt")
    versions = {
        n: next(iter(pinned[n].specifier)).version for n in ("torch", "torchvision", "jinja2")
    }
    needs = {
        "torch": "Requires-Dist: jinja2\n",
        "torchvision": "Requires-Dist: torch\n",
        "jinja2": "",
    }
    hashed = write_wheel(main, "triton", "3.6.0")
    for name, version in versions.items():
        cuda = "Requires-Dist: triton\n" * (name == "torch")
        hashed += write_wheel(main, name, version, needs[name] + cuda)
        write_wheel(cpu, name, f"{version}+cpu", needs[name])
    (tmp_path / "requirements.txt").write_text(hashed)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": main.as_uri()}

    def run(choice: str) -> tuple[str, dict[str, str]]:
        command = ["make", "-C", tmp_path, "install", f"TORCH={choice}", f"PYTHON={sys.executable}"]
        command += [f"TORCH_INDEX={cpu.as_uri()}", "QUIET="]
        made = subprocess.run(command, capture_output=True, text=True, env=environment)
        sites = (tmp_path / ".venv" / "lib").glob("python*/site-packages/*.dist-info")
        found = dict(site.name.removesuffix(".dist-info").split("-") for site in sites)
        return made.stdout + made.stderr, found

    return run


@pytest.mark.parametrize(("choice", "local"), [("cpu", "+cpu"), ("cuda", "")])
def test_make_takes_the_pytorch_that_it_is_asked_for(choice, local, install):
    printed, found = install(choice)
    assert "wrnn" in found, printed
    pinned = pins("constraints.txt")
    for name in ("torch", "torchvision"):
        assert found[name] == next(iter(pinned[name].specifier)).version + local
    assert ("triton" in found) == (choice == "cuda")
    assert "+" not in found["jinja2"], "what is no PyTorch comes from the package index"


@pytest.mark.parametrize("choice", ["cpu", "cuda"])
def test_make_refuses_another_file_of_the_same_version(choice, install, tmp_path):
    version = next(iter(pins("constraints.txt")["jinja2"].specifier)).version
    write_wheel(tmp_path / "main", "jinja2", version, "Summary: another\n")
    printed, found = install(choice)
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in printed
    assert "The installation failed" in printed
    assert "jinja2" not in found and not (tmp_path / ".venv" / "installed").exists()
