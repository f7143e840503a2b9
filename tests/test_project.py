"""The project around the packages: pins, README, Makefile, prose, and what is committed."""

import contextlib
import importlib.metadata
import io
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jupytext
import pytest
import spylls
import typer
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from spylls.hunspell import Dictionary

import wrnn
from companion import cli
from companion.page.map import figure_map
from companion.runs.experiments import find_experiments

ROOT = Path(__file__).resolve().parents[1]
TRAINING = ["filelock", "numpy", "torch", "torchvision", "typer"]  # all that a GPU machine needs


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
GROUPS = (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
WANTED = [text for group in GROUPS for text in group]
LINES = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
PINS = {canonicalize_name(Requirement(line).name): Requirement(line) for line in LINES}
WITHOUT_CUDA = importlib.metadata.version("torch").endswith("+cpu")
APPLICABLE = {  # the pins that are for this machine
    name: pin
    for name, pin in PINS.items()
    if (not pin.marker or pin.marker.evaluate())
    and not (WITHOUT_CUDA and (name.startswith(("cuda-", "nvidia-")) or name == "triton"))
}


def closure(requirements: list[str]) -> set[str]:
    """Names of everything that these requirements bring in, read off what is installed here."""
    left, seen = [Requirement(text) for text in requirements], set()
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if name == "wrnn" or (name, extra) in seen:
                continue
            seen.add((name, extra))
            children = map(Requirement, importlib.metadata.requires(name) or ())
            left += [c for c in children if not c.marker or c.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def test_constraints_pin_exactly_what_the_extras_bring_in():
    assert len(PINS) == len(LINES), "constraints.txt pins something twice"
    assert all([s.operator for s in pin.specifier] == ["=="] for pin in PINS.values())
    names = closure(WANTED)
    assert sorted(names - APPLICABLE.keys()) == [], "not pinned in constraints.txt"
    assert sorted(APPLICABLE.keys() - names) == [], "pinned, but nothing needs it"
    for requirement in map(Requirement, WANTED):
        if requirement.name != "wrnn":
            (version,) = (s.version for s in PINS[canonicalize_name(requirement.name)].specifier)
            assert requirement.specifier.contains(version), requirement


def test_pinned_versions_are_installed_and_run_on_every_allowed_python():
    """A pin may refuse an early 3.11, such as Debian's 3.11.2."""
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    for name, pin in APPLICABLE.items():
        version = importlib.metadata.version(name)
        assert pin.specifier.contains(version, prereleases=True), f"{name}: run make install"
        wanted = SpecifierSet(importlib.metadata.metadata(name).get("Requires-Python", ">=3"))
        assert all(wanted.contains(python) for python in (oldest, "3.12.0", "3.13.0")), name


def test_other_lists_agree_with_the_pins():
    environment = yaml.safe_load(read("environment.yml"))["dependencies"]
    conda = dict(item.partition("=")[::2] for item in environment if isinstance(item, str))
    assert environment[-1] == {"pip": ["-c constraints.txt", "-e .[dev]"]}
    assert SpecifierSet(PROJECT["requires-python"]).contains(conda.pop("python"))
    for name, version in conda.items():
        assert canonicalize_name(name) not in PINS or PINS[name].specifier.contains(version)
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert PINS["ruff"].specifier.contains(repository["rev"].removeprefix("v"))


def test_version_is_the_same_everywhere():
    command = [sys.executable, "-m", "companion", "--version"]
    versions = {
        "package": wrnn.__version__,
        "command": subprocess.check_output(command, text=True).removeprefix("wrnn ").rstrip(),
        "citation": str(yaml.safe_load(read("CITATION.cff"))["version"]),
        "Zenodo": json.loads(read(".zenodo.json"))["version"],
        "page": re.search(r"version = \{(.+?)\}", read("book/citing.md"))[1],
        "changelog": re.search(r"^## (\d\S*)", read("CHANGELOG.md"), re.MULTILINE)[1],
    }
    assert versions == dict.fromkeys(versions, PROJECT["version"])


def importable_names(distributions: set[str]) -> set[str]:
    """Top-level modules and packages that these distributions bring."""
    return {
        name
        for name, owners in importlib.metadata.packages_distributions().items()
        if distributions & {canonicalize_name(owner) for owner in owners}
    }


def test_training_needs_no_extra_and_no_network(tmp_path):
    """The command line and a training run, with nothing but the training dependencies."""
    assert {*TRAINING} <= {Requirement(text).name for text in PROJECT["dependencies"]}
    everything = {canonicalize_name(d.name) for d in importlib.metadata.distributions()}
    extras = importable_names(everything) - importable_names(closure(TRAINING))
    extras -= {"wrnn", "companion"}
    assert {"matplotlib", "pandas", "papermill", "scipy", "sklearn", "yaml"} <= extras
    code = f"""
import socket, sys
from importlib.machinery import PathFinder

class WithoutExtras(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.split(".")[0] in {extras!r}
        return None if hidden else super().find_spec(name, path, target)

def refuse(*_):
    raise OSError("no network")

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutExtras
socket.socket.connect = socket.getaddrinfo = refuse
sys.argv = "wrnn run fig3 --profile smoke --match wRNN --device cpu --records".split()
from companion.cli import main
sys.argv.append({str(tmp_path)!r})
main()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("*.json"))


def targets() -> set[str]:
    return set(re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)[1].split())


def test_make_help_lists_every_target_and_the_readme_no_other():
    printed = subprocess.run(
        ["make", "--no-print-directory", "-C", ROOT], capture_output=True, text=True, check=True
    )
    assert {line.split()[1] for line in printed.stdout.splitlines()} == targets()
    assert set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE)) == targets()
    shell = re.findall(r"`make ([a-z]+)|^make ([a-z]+)", read("README.md"), re.MULTILINE)
    assert {"book", "test"} <= {one or other for one, other in shell} <= targets()


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", read("README.md"), re.MULTILINE | re.DOTALL)


def test_readme_snippets_print_what_they_say():
    for block in readme_blocks("python"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(block, {})
        assert printed.getvalue().splitlines() == re.findall(r"# prints (.*)", block)


def test_commands_take_the_options_that_they_are_given():
    """Every ``wrnn`` command of the Makefile and of the README's shell examples."""
    known = typer.main.get_command(cli.app).commands
    text = (read("Makefile") + "\n".join(readme_blocks("bash"))).replace("\\\n", " ")
    uses = re.findall(r"(?:^|/|-m )(?:wrnn|companion) ([a-z]+)(.*)", text, re.MULTILINE)
    assert {"run", "book", "status"} <= {command for command, _ in uses}
    for command, rest in uses:
        options = {option for p in known[command].params for option in p.opts}
        assert set(re.findall(r"--[a-z0-9-]+", rest.partition("#")[0])) <= options, command
        if command == "run":
            assert find_experiments(re.findall(r"[a-z0-9]+", rest.partition("--")[0]))


def test_readme_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", read("README.md"))
    assert any(target.endswith(".png") for target in targets), "no figure"
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.fixture
def make(tmp_path):
    """Run make in a folder that has its files, with a shell script in place of Python."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "requirements.txt"):
        (tmp_path / name).write_text(read(name))

    def run(python: str, *arguments: str) -> subprocess.CompletedProcess:
        fake = tmp_path / "python3"
        fake.write_text(f"#!/bin/sh\n{python}\n")
        fake.chmod(0o755)
        command = ["make", "-C", tmp_path, f"PYTHON={fake}", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    return run


def test_an_interrupted_install_is_begun_again(make, tmp_path):
    """Only a finished install counts; what one left behind half-way is not built upon."""
    python = """case "$*" in
*"-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
*"-m pip install"*"-e .") test -e broken && exit 1; echo x >> installs ;;
esac"""
    (tmp_path / "broken").touch()
    assert make(python, "install").returncode == 2
    leftover = tmp_path / ".venv" / "half-installed"
    leftover.touch()
    (tmp_path / "broken").unlink()
    assert make(python, "install").returncode == 0
    assert not leftover.exists()
    assert make(python, "install").returncode == 0
    assert (tmp_path / "installs").read_text() == "x\n", "installed again without need"


def test_an_old_python_and_another_pytorch_get_a_clear_line(make, tmp_path):
    result = make('[ "$1" = -V ] && echo "Python 3.9.2" || exit 1', "book")
    assert result.returncode == 2
    assert "Python 3.11 or newer is needed" in result.stderr and "Python 3.9.2" in result.stderr
    assert not (tmp_path / ".venv").exists()
    result = make("", "install", "TORCH=gpu")
    assert result.returncode == 2 and "TORCH=gpu: it is cuda or cpu" in result.stderr


def test_make_paper_needs_no_install_where_python_has_what_training_needs(make, tmp_path):
    python = 'case "$1" in -c) test -e torch ;; *) echo "$PYTHONPATH $*" >> calls ;; esac'
    result = make(python, "paper")
    assert result.returncode == 2 and "lacks what training needs" in result.stderr
    (tmp_path / "torch").touch()
    assert make(python, "paper").returncode == 0
    given = ("SEEDS=1", "TIME_LIMIT=3000", "CIFAR10=folder")
    assert make(python, "paper", *given).returncode == 0
    command = "src -m companion run all --profile paper --device cuda --records records"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{command} --seeds 5 --time-limit 0 --cifar10 torchvision",
        f"{command} --seeds 1 --time-limit 3000 --cifar10 folder",
    ]
    assert not (tmp_path / ".venv").exists()


_NOT_PROSE = re.compile(
    r"^(?:`{3}|~{3}|:{3})\{(?:figure|table|note|tip|warning|admonition|dropdown)\}.*$"
    r"|^(```|~~~).*?^\1|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)|https?://\S+|\{[\w:]+\}|<[^>]+>"
    r"|^\(\S+\)=|:\w+:|^%[^\n]*",
    re.MULTILINE | re.DOTALL,
)


def test_prose_is_spelled():
    known = set(read("tests/words.txt").split())
    hunspell = Path(spylls.__file__).parent / "hunspell/data/en/en_US"
    dictionary = Dictionary.from_files(str(hunspell))

    def misspelled(text: str) -> set[str]:
        """Words of a Markdown text that neither the dictionary nor tests/words.txt knows."""
        words = re.findall(r"[^\W\d_](?:[^\W\d_]|['’](?=[^\W\d_]))*", _NOT_PROSE.sub(" ", text))
        words = {word.replace("’", "'").removesuffix("'s") for word in words}
        return {w for w in words if len(w) > 2 and w not in known and not dictionary.lookup(w)}

    pages = [*ROOT.glob("*.md"), *ROOT.glob("book/*.md")]
    texts = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in pages}
    for path in ROOT.glob("notebooks/*.py"):
        cells = jupytext.read(path, fmt="py:percent").cells
        texts[path] = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    wrong = {name: words for name, text in texts.items() if (words := misspelled(text))}
    assert wrong == {}, "or add them to tests/words.txt"
    assert misspelled("A speling `eror` in a $formla$, a [lnik](addres) and colour.") == {
        "speling",
        "lnik",
    }


def test_the_map_leads_to_what_is_there():
    entries = json.loads(read("map.json"))
    figures = {path.stem.removesuffix("-dark") for path in ROOT.glob("book/figures/fig-*.png")}
    assert figures <= {entry["name"] for entry in entries}
    assert {f"Table {n}" for n in (1, 2, 3, 4)} <= {p for e in entries for p in e["paper"]}
    codecheck = yaml.safe_load(read("codecheck.yml"))["manifest"]
    named = [path for e in entries for path in (e["page"], *e["records"])]
    named += [item["file"] for item in codecheck]
    assert [path for path in named if not (ROOT / path).is_file()] == []
    assert entries == figure_map(ROOT), "run make publish"


def test_committed_files_are_small_and_no_data_sets():
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True
    )
    paths = [ROOT / name for name in listing.stdout.split("\0") if (ROOT / name).is_file()]
    pending = ROOT / "records/pending"  # checkpoints of unfinished runs, removed when they are done
    most = [(p, 8_000_000 if pending in p.parents else 1_500_000) for p in paths]
    assert [path for path, size in most if path.stat().st_size > size] == []
    data = {".gz", ".tgz", ".zip", ".npy", ".npz", ".pt", ".pth", ".pkl", ".parquet"}
    assert [p for p in paths if p.suffix in data and ROOT / "records" not in p.parents] == []
