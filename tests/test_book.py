"""The pipeline from a chapter's source to the site, on small chapters of its own."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from companion import book
from companion.book.cells import show_cells
from companion.book.execute import papermill_run
from companion.book.formulas import to_mathml
from wrnn import WrnnError

ROOT = Path(__file__).parents[1]
FIGURE = """```{figure} figures/fig-line.png
:name: fig-line
:alt: A line.

A caption.
```
"""
CHAPTER = '''# %% [markdown]
# (sec-small)=
# # A small chapter
#
# ```{include} generated/fig-line.md
# ```

# %% tags=["parameters"]
profile: str = "quick"  # smoke, quick or paper
seeds: int = 1  # how many seeds

# %%
import os
import sys
from pathlib import Path

folder = Path(os.environ.get("WRNN_BOOK", "elsewhere"))
for name in ("figures", "generated"):
    (folder / name).mkdir(parents=True, exist_ok=True)
(folder / "figures" / "fig-line.png").write_bytes(b"a picture")
(folder / "generated" / "fig-line.md").write_text("""FIGURE""")
print("loss 0.1234")
print("profile", profile, flush=True)

# %%
seeds * 2
'''.replace("FIGURE", FIGURE)


def write_book(folder: Path, chapter: str = CHAPTER) -> Path:
    """Write a book of one chapter and a front page into a folder."""
    for name in ("notebooks", "book"):
        (folder / name).mkdir(parents=True)
    (folder / "notebooks" / "01_small.py").write_text(chapter)
    (folder / "book" / "index.md").write_text("# A book\n\nSee {ref}`sec-small`.\n")
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n  - file: book/01_small\n"
    )
    (folder / "_config.yml").write_text(
        'only_build_toc_files: true\nexecute: {execute_notebooks: "off"}\n'
        "sphinx:\n  extra_extensions: [companion.book.extension]\n"
        "  config: {numfig: true, html_math_renderer: mathml, nb_render_markdown_format: myst}\n"
    )
    return folder


def execute(folder: Path, **parameters) -> Path:
    source = folder / "notebooks" / "01_small.py"
    return book.execute(source, destination=folder / "book", parameters=parameters)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> Path:
    """A book whose one chapter has been executed; read it, do not write to it."""
    folder = write_book(tmp_path_factory.mktemp("book") / "project")
    execute(folder, profile="smoke")
    return folder


@pytest.fixture
def project(executed, tmp_path) -> Path:
    """A copy of that book, to be spoilt."""
    for name, content in contents(executed).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def problems(folder: Path) -> list[str]:
    return book.check(folder / "book", folder / "notebooks")


def test_conversion_depends_on_the_text_alone(tmp_path):
    source = write_book(tmp_path) / "notebooks" / "01_small.py"
    notebook = book.convert(source)
    assert [cell.id for cell in notebook.cells] == [f"01_small-{n:02d}" for n in range(4)]
    assert notebook.cells[1].metadata.tags == ["parameters"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert nbformat.writes(notebook) == nbformat.writes(book.convert(source))
    nbformat.validate(notebook)
    with pytest.raises(WrnnError, match="no chapter source"):
        book.convert(tmp_path / "none.py")


def test_executed_notebook_is_clean_and_sound(executed):
    notebook = nbformat.read(executed / "book" / "01_small.ipynb", 4)
    assert [cell.id for cell in notebook.cells][2] == "01_small-parameters"
    assert notebook.cells[2].metadata.tags == ["injected-parameters"]
    assert notebook.metadata.wrnn.parameters == {"profile": "smoke"}
    assert set(notebook.metadata) == {"kernelspec", "language_info", "wrnn"}
    assert {key for cell in notebook.cells for key in cell.metadata} == {"tags"}
    assert [output.text for output in notebook.cells[3].outputs] == ["loss 0.1234\nprofile smoke\n"]
    assert (executed / "book" / "figures" / "fig-line.png").read_bytes() == b"a picture"
    assert problems(executed) == []


def test_two_executions_are_byte_identical(executed, tmp_path):
    again = write_book(tmp_path / "again")
    execute(again, profile="smoke")
    assert contents(again / "book") == contents(executed / "book")


def test_execute_all_gives_what_execute_gives(executed, tmp_path):
    folder = write_book(tmp_path / "all")
    second = CHAPTER.replace("sec-small", "sec-second").replace("fig-line", "fig-second")
    (folder / "notebooks" / "02_second.py").write_text(second)
    written = book.execute_all(
        folder / "notebooks", destination=folder / "book", parameters={"profile": "smoke"}
    )
    assert [path.name for path in written] == ["01_small.ipynb", "02_second.ipynb"]
    assert written[0].read_bytes() == (executed / "book" / "01_small.ipynb").read_bytes()
    assert problems(folder) == ["02_second: a chapter that is not in _toc.yml"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"profil": "smoke"}, "unknown parameter 'profil'; its parameters: profile, seeds"),
        ({"seeds": "3"}, "parameter seeds is '3'; it must be of type int"),
        ({"seeds": True}, "parameter seeds is True; it must be of type int"),
    ],
)
def test_wrong_parameters_are_errors_before_anything_runs(tmp_path, parameters, message):
    folder = write_book(tmp_path, CHAPTER + "\nPath('ran').touch()\n")
    with pytest.raises(WrnnError, match=re.escape(message)) as error:
        execute(folder, **parameters)
    assert "\n" not in str(error.value)
    with pytest.raises(WrnnError, match=re.escape(message)):
        book.execute_all(folder / "notebooks", destination=folder / "book", parameters=parameters)
    assert set(contents(folder / "book")) == {"index.md"}
    assert not (folder / "notebooks" / "ran").exists()


@pytest.mark.parametrize(
    ("last_line", "error", "message"),
    [
        ("1 / 0", book.ChapterError, "code cell 4 failed: ZeroDivisionError"),
        ("print('careful', file=sys.stderr)", book.ChapterError, "wrote to stderr: careful"),
        (
            "from wrnn import WrnnError\nraise WrnnError('no such device')",
            WrnnError,
            "01_small.py: no such device",
        ),
    ],
)
def test_a_failed_execution_changes_nothing(project, last_line, error, message):
    before = contents(project / "book")
    changed = CHAPTER.replace("a picture", "another picture") + f"\n# %%\n{last_line}\n"
    (project / "notebooks" / "01_small.py").write_text(changed.replace("seeds * 2\n", ""))
    with pytest.raises(error, match=re.escape(message)) as raised:
        execute(project, profile="smoke")
    assert "\n" not in str(raised.value)
    assert contents(project / "book") == before


def test_files_that_a_chapter_no_longer_writes_are_removed(project):
    renamed = CHAPTER.replace("fig-line", "fig-curve")
    (project / "notebooks" / "01_small.py").write_text(renamed)
    execute(project, profile="smoke")
    assert set(contents(project / "book")) == {
        "index.md",
        "01_small.ipynb",
        "figures/fig-curve.png",
        "generated/fig-curve.md",
    }
    assert problems(project) == []


def test_a_file_that_moved_to_another_chapter_stays(project):
    moved, left = CHAPTER.replace("fig-line", "fig-curve"), CHAPTER.replace("fig-line", "fig-other")
    (project / "notebooks" / "01_small.py").write_text(moved)
    execute(project, profile="smoke")
    (project / "notebooks" / "02_new.py").write_text(moved)
    (project / "notebooks" / "01_small.py").write_text(left)
    for name in ("02_new.py", "01_small.py"):
        source = project / "notebooks" / name
        book.execute(source, destination=project / "book", parameters={"profile": "smoke"})
    assert (project / "book" / "generated" / "fig-curve.md").exists()


def spoil(change):
    """Return a function that changes the notebook of a book as ``change`` does."""

    def spoiled(folder: Path) -> None:
        page = folder / "book" / "01_small.ipynb"
        notebook = nbformat.read(page, 4)
        change(notebook)
        nbformat.write(notebook, page)

    return spoiled


def edit(name: str, old: str, new: str):
    """Return a function that replaces text in a file of a book."""

    def edited(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return edited


def output(**fields):
    """Return a function that adds an output to the last cell of a book's notebook."""
    return spoil(lambda nb: nb.cells[-1].outputs.append(nbformat.v4.new_output(**fields)))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (edit("notebooks/01_small.py", "seeds * 2", "seeds * 3"), "source changed after"),
        (spoil(lambda nb: nb.cells[-1].update(source="seeds * 3")), "differs from its source"),
        (spoil(lambda nb: nb.cells.pop()), "3 cells where its source has 4"),
        (spoil(lambda nb: nb.cells[-1].update(execution_count=None)), "was not executed"),
        (spoil(lambda nb: nb.cells[-1].update(execution_count=9)), "out of order"),
        (output(output_type="error", ename="KeyError"), "ended in an error: KeyError"),
        (output(output_type="stream", name="stderr", text="careful"), "wrote to stderr"),
        (spoil(lambda nb: nb.cells[2].update(source='profile = "paper"')), "provenance"),
        (spoil(lambda nb: nb.metadata.wrnn.update(parameters={})), "provenance"),
        (edit("book/generated/fig-line.md", "A caption", "My caption"), "not the file that"),
        (edit("book/01_small.ipynb", "{", "<<<<<<< ours {"), "cannot be read as a notebook"),
        (lambda folder: (folder / "book/figures/fig-line.png").unlink(), "fig-line.png is missing"),
        (lambda folder: (folder / "book/01_small.ipynb").unlink(), "01_small.py: not executed"),
        (lambda folder: (folder / "notebooks/01_small.py").unlink(), "no source 01_small.py"),
    ],
)
def test_check_finds(project, change, problem):
    assert problems(project) == []
    change(project)
    found = problems(project)
    assert any(problem in line for line in found), found


def nbval(notebook: Path) -> subprocess.CompletedProcess:
    config = ROOT / "tests" / "nbval.cfg"
    options = ["-c", config, "--nbval-sanitize-with", config, "--rootdir", notebook.parent]
    command = [sys.executable, "-m", "pytest", "-q", *options]
    return subprocess.run(
        [*command, notebook], capture_output=True, text=True, cwd=notebook.parent, check=False
    )


def test_one_changed_digit_makes_nbval_fail(project):
    page = project / "book" / "01_small.ipynb"
    unchanged = nbval(page)
    assert unchanged.returncode == 0, unchanged.stdout
    spoil(lambda nb: nb.cells[3].outputs[0].update(text="loss 0.1235\nprofile smoke\n"))(project)
    changed = nbval(page)
    assert changed.returncode == 1, changed.stdout
    assert "loss 0.1235" in changed.stdout


# What jupyter-book refuses when it builds, each with what it says: `check` need not look for it.
DEFECTS = {
    edit("_toc.yml", "book/01_small", "book/01_small\n  - file: book/02_none"): "02_none",
    edit("book/index.md", "sec-small", "sec-unknown"): "sec-unknown",
    edit("book/index.md", "See", "![](figures/fig-line.png)\n\nSee"): "fig-line.png has no alt",
    edit("book/index.md", "See", "![a](figures/none.png)\n\nSee"): "figures/none.png",
    edit("book/index.md", "See", "```{include} none.md\n```\n\nSee"): "none.md",
    edit("book/index.md", "See", "$\\nonsense$\n\nSee"): "no MathML of \\nonsense",
    output(output_type="display_data", data={"image/png": "aaaa"}): "png has no alt",
    output(output_type="display_data", data={"text/markdown": "![](figures/two.png)"}): "two.png",
}


def test_build_makes_the_site_or_leaves_the_old_one(project, capfd):
    html = project / "_build" / "html"
    index = book.build(project, html)
    assert index == html / "index.html"
    assert capfd.readouterr() == ("", "")
    page = (html / "book" / "01_small.html").read_text()
    assert "loss 0.1234" in page and 'alt="A line."' in page
    before = contents(html)
    for spoilt in DEFECTS:
        spoilt(project)
    with pytest.raises(book.ChapterError, match="did not build"):
        book.build(project, html)
    said = capfd.readouterr().err
    assert [part for part in DEFECTS.values() if part not in said] == []
    assert contents(html) == before
    assert [path.name for path in html.parent.iterdir()] == ["html"]


def code(source: str, *tags: str, prints: str = "", says: str = "") -> dict:
    """A code cell of a notebook as JSON."""
    outputs = [{"output_type": "stream", "name": "stdout", "text": prints}] if prints else []
    outputs += [{"output_type": "display_data", "data": {"text/markdown": says}}] if says else []
    return {
        "cell_type": "code",
        "source": [source],
        "outputs": outputs,
        "metadata": {"tags": [*tags]},
    }


def text(source: str) -> dict:
    return {"cell_type": "markdown", "source": [source], "metadata": {}}


def test_a_page_shows_of_its_cells_what_a_reader_needs(tmp_path):
    captions = {
        "fig-a": "```{figure} a.png\n:alt: x\n\nThe paper's Figure 3, top: loss of `wRNN` (b).\n",
        "tab-b": ":::{table} MNIST after {eq}`x`, in a table whose caption goes on for rather long "
        "and does not end here\n:::",
        "tab-c": ":::{table} The values of {numref}`fig-a`.\n:::",
    }
    for name, caption in captions.items():
        (tmp_path / f"{name}.md").write_text(caption)
    cells = [
        text("# A page\n## Losses of all\nSome prose."),
        code("profile = 1", "parameters", "hide-input"),
        code("import torch", "hide-input"),
        code("y = 2  # fig-a is not written here"),
        code("page.figure('fig-a')", "hide-input"),
        code("page.say(1)", "hide-input", says="A sentence on {numref}`fig-a`."),
        code("page.verdicts('b')", "hide-cell", prints="a  b"),
        text("```{include} generated/tab-b.md\n```"),
        code("print(1)", "hide-input", prints="1"),
        code("print(2)", "hide-input", prints="2"),
        code("page.table('tab-c')", prints="x  y"),
        code("draw('fig-a', 'tab-c')", "hide-input"),
    ]
    show_cells({"cells": cells}, tmp_path)
    shown = [
        (cell["metadata"]["tags"], cell["metadata"].get("mystnb", {}).get("code_prompt_show"))
        for cell in cells
        if cell["cell_type"] == "code"
    ]
    assert shown == [
        (["parameters", "remove-cell"], None),
        (["remove-cell"], None),
        ([], None),
        (["hide-input", "remove-stdout"], "Code: loss of wRNN"),
        (["remove-input"], None),
        (["hide-input", "remove-stdout"], "Code: MNIST after x, in a table whose caption goes"),
        (["hide-input"], "Code: losses of all"),
        (["hide-input"], "Code: losses of all, 2"),
        (["remove-stdout"], None),
        (["hide-input", "remove-stdout"], "Code: loss of wRNN, 2"),
    ]


PICTURES = """
for name in ("fig-line", "fig-line-dark"):
    (folder / "figures" / f"{name}.png").write_bytes(b"a picture, " + name.encode())
table = "tab-x"
(folder / "generated" / f"{table}.md").write_text(
    ":::{table} Two `rows`.\\n:name: tab-x\\n\\n"
    "| a | b |\\n| --- | --- |\\n| *1*, and | $x$ |\\n| 2 | {numref}`fig-line` |\\n:::\\n"
)
print("a", "b", sep="  ")
"""


def test_a_site_has_dark_faces_tables_to_download_and_whole_notebooks(tmp_path):
    chapter = CHAPTER.replace("seeds * 2\n", PICTURES) + (
        "\n# %% [markdown]\n# With $x^2$, n = 3 `a = 3`.\n"
        "#\n# ```{include} generated/tab-x.md\n# ```\n"
    )
    folder = write_book(
        tmp_path, chapter.replace("# %%\nimport", "# %% tags=['hide-input']\nimport")
    )
    execute(folder, profile="smoke")
    html = book.build(folder, folder / "_build" / "html").parent
    page = (html / "book" / "01_small.html").read_text()
    pictures = re.findall(r'<img[^>]*class="(only-\w+)"[^>]*src="[^"]*/(fig[\w-]+)\.png"', page)
    assert pictures == [("only-light", "fig-line"), ("only-dark", "fig-line-dark")]
    (link,) = re.findall(r'<a class="table-file" href="([^"]+)" download>CSV', page)
    rows = list(csv.reader((html / "book" / link).read_text(encoding="utf-8").splitlines()))
    assert rows == [["a", "b"], ["1, and", "x"], ["2", "Fig. 0.1"]]
    assert re.search(r'<span class="whole"><span class="math"><math.*?</math></span>,', page, re.S)
    assert "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}3" in page and "MathJax" not in page
    assert "Parameters" not in page and "profile: str" not in page
    assert "Code: a small chapter" in page and "a  b" not in page
    whole = (html / "_sources" / "book" / "01_small.ipynb").read_text()
    assert "profile: str" in whole and "a  b" in whole


@pytest.mark.parametrize(
    ("tex", "part"),
    [
        (r"\boldsymbol{\Sigma}\,\mathbf{h}", ">𝚺</mi>"),
        (r"\boldsymbol{\xi}_t", "<mi>𝝃</mi>"),
        (r"1, \dots, n", "<mi>…</mi>"),
        (r"^p", "<mi>p</mi>"),
        (r"\log x", '<mo rspace="0.17em">&ApplyFunction;</mo>'),
        (r"1/n", '<mo lspace="0" rspace="0" stretchy="false">/</mo>'),
        (r"\{0, 1\}^3", '<mo stretchy="false">}</mo>'),
        (r"\begin{aligned} d &\sim p \end{aligned}", '<mo form="infix">∼</mo>'),
    ],
)
def test_formulas_are_what_tex_makes_of_them(tex, part):
    assert part in re.sub(r"\s*\n\s*", "", to_mathml(tex))


def test_staging_writes_the_list_of_figures(project):
    edit("book/index.md", "See", "% list of figures and tables\n\nSee")(project)
    staged = book.stage(project, project / "_build" / "staged") / "index.md"
    listed = "## [A small chapter](./01_small.ipynb)\n\n- {numref}`fig-line`: A caption.\n"
    assert listed in staged.read_text()
    staged = book.stage(project, project / "_build" / "staged", executed=False) / "index.md"
    assert "% list of figures" in staged.read_text(), "to be written once there are chapters"


def test_staging_leaves_out_what_was_executed(project):
    staged = book.stage(project, project / "_build" / "staged", executed=False)
    assert set(contents(staged)) == {"index.md"}
    assert book.stage(project, project / "_build" / "staged") == staged
    assert contents(staged) == contents(project / "book")
    with pytest.raises(WrnnError, match=r"_config\.yml is missing"):
        book.stage(project / "notebooks", project / "_build" / "other")


@pytest.mark.parametrize(
    ("chapter", "words"),
    [("04_adding", ("not yet recorded", "wrnn run")), ("C_performance", ("not yet measured",))],
)
def test_a_chapter_without_records_says_what_is_missing(chapter, words, tmp_path, monkeypatch):
    """As published, but from an empty folder of records; ``make test`` does it with all of them."""
    monkeypatch.setenv("WRNN_RECORDS", str(tmp_path / "no-records"))
    parameters = {"profile": "paper", "device": "cpu", "train": False}
    source = Path(__file__).parents[1] / "notebooks" / f"{chapter}.py"
    written = book.execute(source, destination=tmp_path, parameters=parameters)
    text = written.read_text(encoding="utf-8")
    assert all(word in text for word in words)


@pytest.mark.parametrize(("silent", "started"), [(1, 2), (2, 2)])
def test_a_kernel_that_never_answers_is_started_once_more(silent, started, monkeypatch):
    calls = []

    def start(notebook, output, parameters, **options):
        calls.append(parameters)
        if len(calls) <= silent:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return notebook

    monkeypatch.setattr(papermill, "execute_notebook", start)
    if silent < started:
        assert papermill_run(Path("03_copy.py"), "notebook", {}) == "notebook"
    else:
        with pytest.raises(RuntimeError, match="before replying"):
            papermill_run(Path("03_copy.py"), "notebook", {})
    assert len(calls) == started
