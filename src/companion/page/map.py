"""From every figure and table of the book to its chapter, its command and its records.

`wrnn book --publish` writes this as ``map.json``, beside the README, once it has executed the
chapters.
"""

import json
import re
from pathlib import Path

import nbformat

from companion.page.chapter import command
from companion.records.files import Store, write_atomically
from companion.records.table import whatever_source
from companion.runs.experiments import ALIASES, EXPERIMENTS, Experiment

_INCLUDED = re.compile(r"^[`~]{3,}\{include\} generated/((?:fig|tab)-[\w-]+)\.md", re.MULTILINE)
_CAPTION = {
    "fig": re.compile(r"^:alt:.*\n\n(.+)", re.MULTILINE),
    "tab": re.compile(r"^:{3,}\{table\} (.+)", re.MULTILINE),
}
_ITEM = re.compile(r"\b(Figures?|Tables?) (\d+)(?: (?:and|to) (\d+))?")


def figure_map(root: Path) -> list[dict]:
    """Return what is on the pages of the book in ``root``, in their order.

    Each is ``{name, caption, page, paper, of, commands, records}``: ``paper`` names the items of
    the paper that the caption does. Commands are ``of`` "paper", those of these items, or else of
    "page", all of that page; the records those of the same tasks and models in ``records/``.
    """
    stored = [(record.id, record.run) for record in Store(root / "records").all()]
    entries = []
    for page in sorted((root / "book").glob("*.ipynb")):
        cells = nbformat.read(page, 4).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for name in _INCLUDED.findall(prose):
            text = (root / "book" / "generated" / f"{name}.md").read_text(encoding="utf-8")
            found = _CAPTION[name[:3]].search(text)
            caption = found[1].split(" Source: ")[0] if found else ""
            paper = _items(caption)
            shown = _experiments(paper, page.stem)
            exact = [e for e in shown if e.name in _names(paper)]
            wanted = {
                (whatever_source(run.task), run.model) for e in shown for run in e.runs("paper")
            }
            records = [
                key for key, run in stored if (whatever_source(run.task), run.model) in wanted
            ]
            entries.append(
                {
                    "name": name,
                    "caption": caption,
                    "page": f"book/{page.name}",
                    "paper": paper,
                    "of": "paper" if exact else "page",
                    "commands": [command(experiment.name) for experiment in shown]
                    or [f"papermill book/{page.name} out.ipynb"],
                    "records": sorted(f"records/{key}.json" for key in records),
                }
            )
    return entries


def write_map(root: Path) -> None:
    """Write ``map.json`` into ``root``."""
    text = json.dumps(figure_map(root), indent=1, ensure_ascii=False)
    write_atomically(root / "map.json", f"{text}\n".encode())


def _items(caption: str) -> list[str]:
    return list(
        dict.fromkeys(
            f"{kind.rstrip('s')} {number}"
            for kind, *numbers in _ITEM.findall(caption)
            for number in numbers
            if number
        )
    )


def _experiments(paper: list[str], chapter: str) -> list[Experiment]:
    found = [EXPERIMENTS[name] for name in _names(paper) if name in EXPERIMENTS]
    return found or [e for e in EXPERIMENTS.values() if e.chapter == chapter]


def _names(paper: list[str]) -> list[str]:
    """Return "fig3" for "Figure 3"; the experiment's own name where that is an alias."""
    names = [item.lower().replace("figure ", "fig").replace("table ", "table") for item in paper]
    return list(dict.fromkeys(ALIASES.get(name, name) for name in names))
