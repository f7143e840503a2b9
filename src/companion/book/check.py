"""Check the pages that are about to be published; jupyter-book would not notice any of this."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from sphinx_external_toc.parsing import parse_toc_yaml

from companion.book.source import convert, parameters_of, sha256

_DIRECTIVE = re.compile(
    r"^(?P<fence>`{3,}|~{3,}|:{3,})\{(?P<name>[\w-]+)\}[ \t]*(?P<argument>[^\n]*?)[ \t]*\n"
    r"(?P<body>.*?)^(?P=fence)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_CODE = re.compile(r"^(?P<fence>`{3,})[\w+-]*\n.*?^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL)
_NOT_A_DIRECTIVE = re.compile(r"^`{3,}\{[\w-]+\}[^\n]*`", re.MULTILINE)
_ALT = re.compile(r"^:?alt:[ \t]*\S", re.MULTILINE)
_IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<target>[^)\s]+)[^)]*\)")
_HTML_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
_ATTRIBUTE = r"\b{}\s*=\s*[\"']([^\"']+)[\"']"


def check(book_dir: str | Path, notebooks_dir: str | Path) -> list[str]:
    """Everything that keeps the book from being published, one line each; empty when it is sound.

    Every page of ``_toc.yml`` (beside ``book_dir``) exists and every chapter is on it; every code
    cell ran, in order, without an error and without stderr output; chapters say what their sources
    say, with the parameters that their provenance names; the files that a chapter wrote are
    unchanged; every figure exists and has alternative text.
    """
    book, notebooks = Path(book_dir), Path(notebooks_dir)
    root = book.parent
    problems = []
    pages = {str(page) for page in parse_toc_yaml(root / "_toc.yml")}
    for page in sorted(pages):
        if not any((root / f"{page}{suffix}").is_file() for suffix in (".md", ".ipynb")):
            problems.append(f"{page}: in _toc.yml, but there is no such page")
    names = {path.stem for path in [*notebooks.glob("*.py"), *book.glob("*.ipynb")]}
    for name in sorted(names):
        page, source = book / f"{name}.ipynb", notebooks / f"{name}.py"
        if page.relative_to(root).with_suffix("").as_posix() not in pages:
            problems.append(f"{name}: a chapter that is not in _toc.yml")
        if not source.is_file():
            problems.append(f"{page.name}: no source {source.name}")
        elif not page.is_file():
            problems.append(f"{source.name}: not executed yet")
        else:
            problems += [f"{page.name}: {text}" for text in _check_chapter(page, source)]
    for page in sorted([*book.glob("*.md"), *book.glob("generated/*.md")]):
        text = page.read_text(encoding="utf-8")
        name = page.relative_to(book).as_posix()
        problems += [f"{name}: {problem}" for problem in _check_text(text, book)]
    return problems


def _check_chapter(page: Path, source: Path) -> Iterator[str]:
    notebook = nbformat.read(page, 4)
    provenance = notebook.metadata.get("wrnn", {})
    if provenance.get("source_sha256") != sha256(source):
        yield "its source changed after it was executed; execute it again"
    yield from _check_cells(notebook, convert(source))
    injected = parameters_of(notebook, "injected-parameters") or {}
    if injected != provenance.get("parameters"):
        yield f"its parameters {injected} are not those of its provenance"
    for name, digest in provenance.get("files", {}).items():
        path = page.parent / name
        if not path.is_file():
            yield f"{name} is missing"
        elif sha256(path) != digest:
            yield f"{name} is not the file that the chapter wrote"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield from _check_text(cell.source, page.parent)
    yield from _check_outputs(notebook, page.parent)


def _check_cells(notebook: NotebookNode, expected: NotebookNode) -> Iterator[str]:
    def content(cell: NotebookNode) -> tuple:
        return cell.id, cell.cell_type, cell.source, tuple(cell.metadata.get("tags", ()))

    cells = [cell for cell in notebook.cells if "injected-parameters" not in content(cell)[3]]
    if len(cells) != len(expected.cells):
        yield f"{len(cells)} cells where its source has {len(expected.cells)}"
    for cell, wanted in zip(cells, expected.cells, strict=False):
        if content(cell) != content(wanted):
            yield f"cell {wanted.id} differs from its source"
            return


def _check_outputs(notebook: NotebookNode, folder: Path) -> Iterator[str]:
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    for count, cell in enumerate(code, start=1):
        if cell.execution_count is None:
            yield f"cell {cell.id} was not executed"
        elif cell.execution_count != count:
            yield f"cell {cell.id} was executed out of order"
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"cell {cell.id} ended in an error: {output.ename}"
            elif output.get("name") == "stderr":
                yield f"cell {cell.id} wrote to stderr"
            elif any(kind.startswith("image/") for kind in output.get("data", ())):
                yield f"cell {cell.id} shows an image without alternative text"
            for kind in {"text/markdown", "text/html"} & set(output.get("data", ())):
                yield from _check_text(output.data[kind], folder)


def _check_text(text: str, folder: Path) -> Iterator[str]:
    """Problems of the images and included files of a Markdown text that is read in ``folder``."""
    for line in _NOT_A_DIRECTIVE.findall(text):
        yield f"a backtick after {line[:20]}... makes it plain text: fence it with ~~~"
    for directive in _DIRECTIVE.finditer(text):
        name, argument, body = directive.group("name", "argument", "body")
        if name in ("figure", "image"):
            yield from _check_image(argument, bool(_ALT.search(body)), folder)
        elif name == "include" and not (folder / argument).is_file():
            yield f"{argument} is included, but missing"
        elif name not in ("code-block", "code-cell", "literalinclude", "math"):
            yield from _check_text(body, folder)
    text = _CODE.sub("", _DIRECTIVE.sub("", text))
    for image in _IMAGE.finditer(text):
        yield from _check_image(image["target"], bool(image["alt"].strip()), folder)
    for tag in _HTML_IMAGE.findall(text):
        target = re.search(_ATTRIBUTE.format("src"), tag)
        alt = re.search(_ATTRIBUTE.format("alt"), tag)
        yield from _check_image(target[1] if target else "<img>", bool(alt), folder)


def _check_image(target: str, has_alt: bool, folder: Path) -> Iterator[str]:
    if not has_alt:
        yield f"figure {target} has no alternative text"
    if not (folder / target).is_file():
        yield f"figure {target} is missing"
