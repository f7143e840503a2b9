"""What of a chapter's cells its page shows; the notebook that one can download has all of them.

- Parameters, and hidden cells that neither show nor write anything, are left out.
- Of a hidden cell that only says sentences, the sentences stay.
- Any other hidden cell is folded under ``Code: WHAT``: the first figure or table that it writes, by
  the beginning of its caption, or the section that it stands in, for numbers that it prints.
- What a cell prints of a table is left out where it writes that table for the page.

A cell is hidden if it is tagged hide-input or hide-cell; none is folded in another way.
"""

import ast
import re
from pathlib import Path

FOLD = "Code: "
LONGEST = 70  # characters of a caption in the name of a fold
_ITEM = re.compile(r"(?:fig|tab|film)-[\w-]+")
_INCLUDED = re.compile(r"\{include\} generated/((?:fig|tab|film)-[\w-]+)\.md")
_CAPTION = re.compile(r"^:{3,}\{table\} (.+)|^:alt:.*\n(?::.*\n)*\n(.+)", re.MULTILINE)
_PAPERS_OWN = re.compile(r"^The paper's (?:Figure|Table) \d+(?:, [\w ]+)?: ")
_WHOLE = re.compile(r"(.+)(?:,| (?:against|as|by|from|in|of|on|over|that|to|with)) ")
_REFERENCE = re.compile(r"\{numref\}`([^`]+)`")
_PARAMETERS = {"parameters", "injected-parameters"}
_HIDDEN = {"hide-input", "hide-cell"}


def show_cells(notebook: dict, generated: Path) -> None:
    """Set the tags of a notebook's code cells to what its page shows of them.

    Args:
        notebook: as JSON, changed in place.
        generated: the folder of the files that chapters include.
    """
    cells = notebook["cells"]
    heading, taken = "", set()
    for place, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            heading = next(iter(re.findall(r"^#+ (.+)$", source, re.MULTILINE)[::-1]), heading)
            continue
        tags = set(cell["metadata"].get("tags", ()))
        hidden = bool(tags & _HIDDEN)
        prints = any(output["output_type"] == "stream" for output in cell["outputs"])
        written = _named(source)
        if "hide-cell" in tags and not written:
            written = _following(cells[place + 1 :])
        tags -= _HIDDEN
        if written:
            tags.add("remove-stdout")
        cell["metadata"] = {}
        if tags & _PARAMETERS or (hidden and not (written or cell["outputs"])):
            tags.add("remove-cell")
        elif hidden and not (written or prints):
            tags.add("remove-input")
        elif hidden:
            tags.add("hide-input")
            titles = dict.fromkeys(title(generated, name) for name in written)
            own = [a for a in titles if not any(a != b and b in a for b in titles)]
            label = _unused(FOLD + (own[0] if own else _lower(plain(heading))), taken)
            cell["metadata"]["mystnb"] = {"code_prompt_show": label, "code_prompt_hide": label}
        cell["metadata"]["tags"] = sorted(tags)


def _named(source: str) -> list[str]:
    """Return the figures and tables whose names stand in a cell's code."""
    constants = (n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant))
    names = [value for value in constants if isinstance(value, str) and _ITEM.fullmatch(value)]
    return list(dict.fromkeys(names))


def _following(cells: list[dict]) -> list[str]:
    """Return the figures and tables that stand between a cell and the next one with code."""
    names = []
    for cell in cells:
        if cell["cell_type"] == "code":
            break
        names += _INCLUDED.findall("".join(cell["source"]))
    return names


def title(generated: Path, name: str) -> str:
    """Return what a generated figure, table or film shows: the beginning of its caption."""
    text = _caption(generated, name)
    text = _REFERENCE.sub(lambda other: _beginning(_caption(generated, other[1])), text)
    return _beginning(text)


def _caption(generated: Path, name: str) -> str:
    path = generated / f"{name}.md"
    found = caption(path.read_text(encoding="utf-8")) if path.is_file() else ""
    return found or name.partition("-")[2].replace("-", " ")


def caption(text: str) -> str:
    """Return the caption, or the first line of it, of a file with a figure or a table."""
    found = _CAPTION.search(text)
    return (found[1] or found[2]) if found else ""


def _beginning(caption: str) -> str:
    text = _PAPERS_OWN.sub("", plain(caption))
    text = re.split(r"[.:;] | \(|, with |[.:;]$", text)[0]
    if len(text) > LONGEST:
        text = _WHOLE.match(text[:LONGEST])[1].rstrip(",")
    return _lower(text)


def plain(text: str) -> str:
    """Return Markdown without references and marks."""
    text = re.sub(r" (?:of|in|by) \{eq\}`[^`]*`", "", text)
    text = re.sub(r"\{\w+\}`([^`<]*?)(?: <[^`]*>)?`", r"\1", text)
    return re.sub(r"[`*$]", "", text).strip()


def _lower(text: str) -> str:
    """Return a text that begins in lower case, unless it begins with a name such as MNIST."""
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _unused(label: str, taken: set[str]) -> str:
    """Return the label, numbered where the page has it already."""
    count, wanted = 1, label
    while label in taken:
        count += 1
        label = f"{wanted}, {count}"
    taken.add(label)
    return label
