"""A chapter's source as a notebook, and the parameters that it takes."""

import ast
import hashlib
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from wrnn.errors import WrnnError

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}


def convert(source: str | Path) -> NotebookNode:
    """Read a py:percent chapter as a notebook that depends on nothing but its text.

    Cells are named after the chapter and their place (``03_copy-04``); the kernel is always
    ``python3``; cells keep their tags and no other metadata. ``companion.book.cells`` decides
    what of them a page shows.

    Raises:
        WrnnError: the source does not exist.
    """
    source = Path(source)
    if not source.is_file():
        raise WrnnError(f"no chapter source {source}")
    notebook = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.update(nbformat=4, nbformat_minor=5)
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem}-{number:02d}"
        keep_tags(cell)
    return notebook


def parameters_of(notebook: NotebookNode, tag: str = "parameters") -> dict | None:
    """Names and literal values assigned in the cell tagged ``tag``; None without such a cell."""
    for cell in notebook.cells:
        if tag in cell.metadata.get("tags", ()):
            values = {}
            try:
                for statement in ast.parse(cell.source).body:
                    target = getattr(statement, "target", None) or statement.targets[0]
                    values[target.id] = ast.literal_eval(statement.value)
            except (SyntaxError, ValueError, AttributeError) as error:
                raise WrnnError(
                    f"cell {cell.id}: parameters are assigned as NAME = VALUE: {error}"
                ) from error
            return values
    return None


def check_parameters(source: Path, notebook: NotebookNode, parameters: dict) -> None:
    """Raise where a parameter is unknown to a chapter, or of another type than its default."""
    defaults = parameters_of(notebook) or {}
    for name, value in parameters.items():
        if name not in defaults:
            allowed = ", ".join(sorted(defaults)) or "none"
            raise WrnnError(f"{source.name}: unknown parameter {name!r}; its parameters: {allowed}")
        if type(value) is not type(defaults[name]):
            raise WrnnError(
                f"{source.name}: parameter {name} is {value!r}; "
                f"it must be of type {type(defaults[name]).__name__}"
            )


def keep_tags(cell: NotebookNode) -> None:
    """Keep a cell's tags and nothing else."""
    tags = list(cell.metadata.get("tags", ()))
    cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
