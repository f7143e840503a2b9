"""The project around the package: pins, README, Makefile, citation, and what is committed."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import jupytext
import pytest
import spylls
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from spylls.hunspell import Dictionary

import wrnn

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 1_000_000
DICTIONARY = Dictionary.from_files(str(Path(spylls.__file__).parent / "hunspell/data/en/en_US"))
VENDORED = ROOT / "book/_static/mathjax"  # 2 MB: formulas are drawn without a network
TRAINING = ["filelock", "numpy", "torch", "torchvision", "typer"]  # all that a GPU machine needs


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


@pytest.fixture(scope="module")
def project() -> dict:
    """The [project] table of pyproject.toml."""
    return tomllib.loads(read("pyproject.toml"))["project"]


@pytest.fixture(scope="module")
def pins() -> dict[str, Requirement]:
    """constraints.txt, by canonical name."""
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    requirements = [Requirement(line) for line in lines]
    by_name = {canonicalize_name(requirement.name): requirement for requirement in requirements}
    assert len(by_name) == len(lines), "constraints.txt pins something twice"
    return by_name


def applies(name: str, pin: Requirement) -> bool:
    """Whether a pin is for this machine; a PyTorch without CUDA brings none of CUDA's packages."""
    without_cuda = importlib.metadata.version("torch").endswith("+cpu")
    of_cuda = name.startswith(("cuda-", "nvidia-")) or name == "triton"
    return (not pin.marker or pin.marker.evaluate()) and not (without_cuda and of_cuda)


@pytest.fixture(scope="module")
def committed() -> list[Path]:
    """Every file that git tracks."""
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True
    )
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def closure(requirements: list[str]) -> set[str]:
    """Names of everything that these requirements bring in, read off what is installed here."""
    left = [Requirement(text) for text in requirements]
    names: set[str] = set()
    seen: set[tuple[str, str]] = set()
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if name == "wrnn" or (name, extra) in seen:
                continue
            seen.add((name, extra))
            names.add(name)
            for text in importlib.metadata.requires(name) or ():
                child = Requirement(text)
                if child.marker is None or child.marker.evaluate({"extra": extra}):
                    left.append(child)
    return names


def needed(project: dict) -> set[str]:
    """Names of everything that ``wrnn[dev]`` brings in."""
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return closure([text for group in groups for text in group])


def test_constraints_are_exact(pins):
    for pin in pins.values():
        assert [specifier.operator for specifier in pin.specifier] == ["=="], str(pin)


def test_constraints_hold_all_that_the_extras_bring_in_and_nothing_else(project, pins):
    applicable = {name for name, pin in pins.items() if applies(name, pin)}
    names = needed(project)
    assert sorted(names - applicable) == [], "not pinned in constraints.txt"
    assert sorted(applicable - names) == [], "pinned in constraints.txt, but nothing needs it"


def test_installed_versions_are_the_pinned_ones(pins):
    different = {
        name: f"{importlib.metadata.version(name)}, not {pin.specifier}"
        for name, pin in pins.items()
        if applies(name, pin)
        and not pin.specifier.contains(importlib.metadata.version(name), prereleases=True)
    }
    assert different == {}, "run make install"


def test_pinned_versions_run_on_every_allowed_python(project, pins):
    """A pin may refuse an early 3.11, such as Debian's 3.11.2."""
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    refused = {
        f"{name}: Python {wanted}"
        for name, pin in pins.items()
        if applies(name, pin)
        for wanted in [importlib.metadata.metadata(name)["Requires-Python"] or ">=3"]
        for python in (oldest, "3.12.0", "3.13.0")
        if not SpecifierSet(wanted).contains(python)
    }
    assert refused == set()


def test_constraints_satisfy_pyproject(project, pins):
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (Requirement(text) for group in groups for text in group):
        name = canonicalize_name(requirement.name)
        if name != "wrnn":
            (version,) = (specifier.version for specifier in pins[name].specifier)
            assert requirement.specifier.contains(version), f"{requirement} against {pins[name]}"


def test_conda_environment_has_the_same_pins(project, pins):
    environment = yaml.safe_load(read("environment.yml"))
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = (item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert pip == ["-c constraints.txt", "-e .[dev]"]
    versions = dict(item.partition("=")[::2] for item in conda)
    python = versions.pop("python")
    assert Requirement(f"python{project['requires-python']}").specifier.contains(python)
    for name, version in versions.items():
        assert canonicalize_name(name) not in pins or pins[name].specifier.contains(version)
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    pythons = {step["with"]["python-version"] for step in steps if "setup-python" in str(step)}
    assert pythons == {python}


def test_pre_commit_runs_the_pinned_ruff(pins):
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert pins["ruff"].specifier.contains(repository["rev"].removeprefix("v"))


def test_version_is_the_same_everywhere(project):
    assert wrnn.__version__ == project["version"]
    assert str(yaml.safe_load(read("CITATION.cff"))["version"]) == project["version"]
    assert json.loads(read(".zenodo.json"))["version"] == project["version"]
    assert f"version = {{{project['version']}}}" in read("book/citing.md")
    newest = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert newest[1] == project["version"]


def test_citation_names_the_paper_and_the_licence(project):
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors"} <= citation.keys()
    assert citation["license"] == project["license"] == "MIT"
    assert "2309.08045" in citation["references"][0]["url"]
    assert read("LICENSE").startswith("MIT License")


def importable_names(distributions: set[str]) -> set[str]:
    """Top-level modules and packages that these distributions bring."""
    return {
        name
        for name, owners in importlib.metadata.packages_distributions().items()
        if distributions & {canonicalize_name(owner) for owner in owners}
    }


@pytest.fixture(scope="module")
def extras() -> set[str]:
    """What can be imported here, but not where only the training dependencies are installed."""
    everything = importable_names(
        {canonicalize_name(d.name) for d in importlib.metadata.distributions()}
    )
    return everything - importable_names(closure(TRAINING)) - {"wrnn", "companion"}


def test_import_is_light(extras):
    result = run_python("import sys, wrnn; print(*{name.split('.')[0] for name in sys.modules})")
    assert result.stderr == ""
    imported = set(result.stdout.split())
    assert "torch" in imported
    assert imported & {*extras, "torchvision"} <= {"tqdm"}  # which torch takes where it is there


def test_all_that_training_needs_is_a_dependency(project, extras):
    assert {*TRAINING} <= {Requirement(text).name for text in project["dependencies"]}
    assert "rich" in closure(["typer"])  # the live table is drawn with it
    assert {"matplotlib", "pandas", "papermill", "scipy", "sklearn", "yaml"} <= extras


@pytest.mark.parametrize(
    ("arguments", "status"),
    [("fig3 --profile smoke", 0), ("fig2 --profile paper --steps 1 --match wRNN", 2)],
)
def test_training_needs_no_extra_and_no_network(arguments, status, extras, tmp_path):
    """The command line and a training run, with nothing but the training dependencies.

    Without a network, images that are missing are one line that says so.
    """
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
sys.argv = ["wrnn", "run", *{arguments.split()!r}]
sys.argv += ["--device", "cpu", "--records", {str(tmp_path / "records")!r}]
from companion.cli import main
main()
"""
    result = run_python(code, WRNN_DATA=str(tmp_path / "data"))
    assert result.returncode == status, result.stderr
    if status:
        assert result.stderr.count("\n") == 1 and "WRNN_DATA" in result.stderr
    else:
        assert list(tmp_path.glob("records/*.json"))


def make_targets() -> set[str]:
    phony = re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)
    return set(phony[1].split())


def test_make_help_lists_every_target():
    printed = subprocess.run(
        ["make", "--no-print-directory", "-C", ROOT], capture_output=True, text=True, check=True
    )
    listed = {line.split()[1] for line in printed.stdout.splitlines()}
    rules = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    assert listed == make_targets() == rules


def test_readme_commands_exist():
    readme = read("README.md")
    named = set(re.findall(r"\bmake ([a-z]+)", "\n".join(re.findall(r"`[^`]+`", readme))))
    named |= set(re.findall(r"^make ([a-z]+)", readme, re.MULTILINE))
    assert {"book", "test"} <= named <= make_targets()


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", read("README.md"), re.MULTILINE | re.DOTALL)


def test_readme_snippets_run():
    blocks = readme_blocks("python")
    assert blocks
    for block in blocks:
        result = run_python(block, OMP_NUM_THREADS="1")
        assert result.returncode == 0, result.stderr
        # A comment that starts with "prints" says what the snippet prints.
        assert result.stdout.splitlines() == re.findall(r"# prints (.*)", block)


def test_readme_experiments_exist():
    from companion.runs.experiments import find_experiments

    named = re.findall(r"wrnn run ([a-z0-9 ]+?) --", "\n".join(readme_blocks("bash")))
    assert named
    for names in named:
        assert find_experiments(names.split())


def test_commands_take_the_options_that_they_are_given():
    """Every ``wrnn`` command of the Makefile and of the README's shell examples."""
    lines = [*read("Makefile").splitlines(), *"\n".join(readme_blocks("bash")).splitlines()]
    used: dict[str, set[str]] = {}
    text = "\n".join(lines).replace("\\\n", " ")
    pattern = r"(?:^|/|-m )(?:wrnn|companion) ([a-z]+)(.*)"
    for command, rest in re.findall(pattern, text, re.MULTILINE):
        used.setdefault(command, set()).update(re.findall(r"--[a-z-]+", rest.partition("#")[0]))
    assert {"run", "book", "status"} <= used.keys()
    for command, options in used.items():
        result = run_python(f"from companion import cli; cli.app([{command!r}, '--help'])")
        assert result.returncode == 0, result.stderr
        known = set(re.findall(r"--[a-z-]+", result.stdout))
        assert options <= known, f"wrnn {command}"


def test_an_interrupted_install_is_begun_again(tmp_path):
    """Only a finished install counts; what one left behind half-way is not built upon."""
    fake = tmp_path / "python3"
    fake.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '*"-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;\n'
        '*"-m pip install"*) test -e broken && exit 1; echo x >> installs ;;\n'
        "esac\n"
    )
    fake.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text(read(name))

    def install() -> int:
        command = ["make", "-C", tmp_path, f"PYTHON={fake}", "install"]
        return subprocess.run(command, capture_output=True).returncode

    (tmp_path / "broken").touch()
    assert install() == 2
    leftover = tmp_path / ".venv" / "half-installed"
    leftover.touch()
    (tmp_path / "broken").unlink()
    assert install() == 0
    assert not leftover.exists()
    assert install() == 0
    assert (tmp_path / "installs").read_text() == "x\n", "installed again without need"


def write_wheel(folder: Path, name: str, version: str, needs: str = "") -> None:
    """An empty wheel in a package index that is a folder."""
    info = f"{name}-{version}.dist-info"
    (folder / name).mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    files = (f'<a href="{path.name}">{path.name}</a>' for path in (folder / name).glob("*.whl"))
    (folder / name / "index.html").write_text("\n".join(files))


@pytest.mark.parametrize(("choice", "local"), [("cpu", "+cpu"), ("cuda", "")])
def test_make_takes_the_pytorch_that_it_is_asked_for(choice, local, pins, tmp_path):
    """What pip would install from two stand-in indexes with the options that make gives it."""
    main, cpu = tmp_path / "main", tmp_path / "cpu"
    for name in ("torch", "torchvision"):
        (version,) = (specifier.version for specifier in pins[name].specifier)
        write_wheel(main, name, version, "Requires-Dist: triton\n" * (name == "torch"))
        write_wheel(cpu, name, f"{version}+cpu")
    write_wheel(main, "triton", next(iter(pins["triton"].specifier)).version)
    command = ["make", "-n", "-C", ROOT, "-W", "constraints.txt", "install", f"TORCH={choice}"]
    made = subprocess.run(
        [*command, f"TORCH_INDEX={cpu.as_uri()}", "PYTHON=true", "INSTALLED=none"],
        capture_output=True,
        text=True,
        check=True,
    )
    (options,) = re.findall(r"pip install -qq \S+ (.*?) ?-c constraints.txt", made.stdout)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
    pip += ["--report", "-", "--index-url", main.as_uri(), *options.split()]
    pip += ["-c", ROOT / "constraints.txt", "torch", "torchvision"]
    environment = os.environ | {"PIP_CONFIG_FILE": os.devnull, "PIP_EXTRA_INDEX_URL": ""}
    environment.pop("PIP_NO_INDEX", None)
    result = subprocess.run(pip, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)["install"]
    chosen = {item["metadata"]["name"]: item["metadata"]["version"] for item in report}
    assert chosen["torch"].partition("+")[1:] == chosen["torchvision"].partition("+")[1:]
    assert chosen["torch"].endswith(local)
    assert ("triton" in chosen) == (choice == "cuda")
    for name, version in chosen.items():
        assert pins[name].specifier.contains(version)


def test_make_refuses_another_pytorch():
    command = ["make", "-C", ROOT, "install", "TORCH=gpu", "INSTALLED=none"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "TORCH=gpu: it is cuda or cpu" in result.stderr


def command_line(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "companion", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_command_helps_and_says_its_version():
    for arguments in ((), ("-h",), ("--help",)):
        helped = command_line(*arguments)
        assert (helped.returncode, helped.stderr) == (0, "")
        assert "Usage:" in helped.stdout and "status" in helped.stdout
    assert command_line("--version").stdout == f"wrnn {wrnn.__version__}\n"
    assert str(ROOT / "records") in command_line("status").stdout


def test_types_are_shipped_and_checked(project):
    assert (Path(wrnn.__file__).parent / "py.typed").is_file()
    assert (
        "py.typed"
        in tomllib.loads(read("pyproject.toml"))["tool"]["setuptools"]["package-data"]["wrnn"]
    )
    assert "$(BIN)/mypy" in read("Makefile")
    assert "Typing :: Typed" in project["classifiers"]
    assert project["urls"]["Paper"] == "https://arxiv.org/abs/2309.08045"


_NOT_PROSE = re.compile(
    r"^(?:`{3}|~{3}|:{3})\{(?:figure|table|note|tip|warning|admonition|dropdown)\}.*$"
    r"|^(```|~~~).*?^\1|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)|https?://\S+|\{[\w:]+\}|<[^>]+>"
    r"|^\(\S+\)=|:\w+:|^%[^\n]*",
    re.MULTILINE | re.DOTALL,
)


def misspelled(text: str) -> set[str]:
    """Words of a Markdown text that neither the dictionary nor tests/words.txt knows."""
    known = set(read("tests/words.txt").split())
    words = re.findall(r"[^\W\d_](?:[^\W\d_]|['’](?=[^\W\d_]))*", _NOT_PROSE.sub(" ", text))
    words = {word.replace("’", "'").removesuffix("'s") for word in words}
    return {w for w in words if len(w) > 2 and w not in known and not DICTIONARY.lookup(w)}


def test_prose_is_spelled():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("book/*.md")]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in pages}
    for path in sorted(ROOT.glob("notebooks/*.py")):
        cells = jupytext.read(path, fmt="py:percent").cells
        prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
        texts[f"notebooks/{path.name}"] = "\n\n".join(prose)
    wrong = {name: words for name, text in texts.items() if (words := misspelled(text))}
    assert wrong == {}, "or add them to tests/words.txt"
    assert misspelled("A speling `eror` in a $formla$, a [lnik](addres) and colour.") == {
        "speling",
        "lnik",
    }


def test_the_map_leads_to_what_is_there():
    entries = json.loads(read("map.json"))
    names = {entry["name"] for entry in entries}
    figures = {path.stem for path in ROOT.glob("book/figures/fig-*.png")}
    figures = {name.removesuffix("-dark") for name in figures}
    assert figures <= names
    assert {f"Table {n}" for n in (1, 2, 3, 4)} <= {p for e in entries for p in e["paper"]}
    for entry in entries:
        assert (ROOT / entry["page"]).is_file()
        assert [path for path in entry["records"] if not (ROOT / path).is_file()] == []
        assert all(c.startswith(("wrnn run ", "papermill ")) for c in entry["commands"])
    assert any(e["records"] and e["of"] == "paper" for e in entries)
    with_codecheck = yaml.safe_load(read("codecheck.yml"))["manifest"]
    assert [item["file"] for item in with_codecheck if not (ROOT / item["file"]).is_file()] == []


def test_make_paper_needs_no_install_where_python_has_what_training_needs(tmp_path):
    fake = tmp_path / "python3"
    fake.write_text(
        '#!/bin/sh\ncase "$1" in -c) test -e torch ;; *) echo "$PYTHONPATH $*" >> calls ;; esac\n'
    )
    fake.chmod(0o755)
    (tmp_path / "Makefile").write_text(read("Makefile"))

    def make(*variables: str) -> subprocess.CompletedProcess:
        command = ["make", "-C", tmp_path, f"PYTHON={fake}", "paper", *variables]
        return subprocess.run(command, capture_output=True, text=True)

    result = make()
    assert result.returncode == 2
    assert "lacks what training needs" in result.stderr
    (tmp_path / "torch").touch()
    assert make().returncode == 0
    assert make("SEEDS=1", "TIME_LIMIT=3000", "CIFAR10=folder").returncode == 0
    command = "src -m companion run all --profile paper --device cuda"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{command} --seeds 5 --time-limit 0 --cifar10 torchvision",
        f"{command} --seeds 1 --time-limit 3000 --cifar10 folder",
    ]
    assert not (tmp_path / ".venv").exists()


def test_readme_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", read("README.md"))
    assert any(target.endswith(".png") for target in targets), "no figure"
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_ci_runs_lint_and_test():
    script = read(".ci/run")
    lines = [line.strip() for line in script.splitlines()]
    assert "set -euo pipefail" in lines
    assert lines[-2:] == ["make lint", "make test"]
    assert os.access(ROOT / ".ci/run", os.X_OK)
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    test = workflow["jobs"]["test"]["steps"]
    assert ".ci/run" in [step.get("run") for step in test]
    assert "_build/screenshots" in [step.get("with", {}).get("path") for step in test]
    assert {"run": "make site TORCH=cpu"} in workflow["jobs"]["pages"]["steps"]


def test_committed_files_are_small_and_no_data_sets(committed):
    large = [path for path in committed if path.stat().st_size > 1.5 * MEGABYTE]
    assert [path for path in large if path.parent != VENDORED] == []
    data = [
        path.relative_to(ROOT)
        for path in committed
        if path.suffix in {".gz", ".tgz", ".zip", ".npy", ".npz", ".pt", ".pth", ".pkl", ".parquet"}
    ]
    assert [path.as_posix() for path in data if path.parts[0] != "records"] == []


def test_an_old_python_gets_a_clear_line(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2" || exit 1\n')
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text(read(name))
    result = subprocess.run(
        ["make", "--no-print-directory", "-C", tmp_path, f"PYTHON={old}", "book"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert "Python 3.11 or newer is needed" in result.stderr
    assert "Python 3.9.2" in result.stderr
    assert not (tmp_path / ".venv").exists()
