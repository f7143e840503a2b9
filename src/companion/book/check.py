"""Check that executed chapters are what their sources say; what a page shows, Sphinx checks."""

from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from sphinx_external_toc.parsing import parse_toc_yaml

from companion.book.source import convert, parameters_of, sha256
from wrnn.errors import WrnnError


def check(book_dir: str | Path, notebooks_dir: str | Path) -> list[str]:
    """Everything about the chapters that keeps them from being published, one line each.

    Every chapter is on a page of ``_toc.yml`` (beside ``book_dir``); every code cell ran, in order,
    without an error and without stderr output; chapters say what their sources say, with the
    parameters that their provenance names; the files that a chapter wrote are unchanged. What the
    build itself refuses, such as a missing page or figure, is left to :func:`companion.book.build`.
    """
    book, notebooks = Path(book_dir), Path(notebooks_dir)
    root = book.parent
    problems = []
    try:
        pages = {str(page) for page in parse_toc_yaml(root / "_toc.yml")}
    except Exception as error:  # of YAML, or of what it holds
        raise WrnnError(f"_toc.yml cannot be read: {str(error).splitlines()[0]}") from error
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
    return problems


def _check_chapter(page: Path, source: Path) -> Iterator[str]:
    try:
        notebook = nbformat.read(page, 4)
    except ValueError as error:
        yield f"cannot be read as a notebook: {str(error).splitlines()[0]}"
        return
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
    yield from _check_outputs(notebook)


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


def _check_outputs(notebook: NotebookNode) -> Iterator[str]:
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
