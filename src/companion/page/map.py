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
from companion.runs.experiments import ALIASES, EXPERIMENTS

_INCLUDED = re.compile(r"^[`~]{3,}\{include\} generated/((?:fig|tab)-[\w-]+)\.md", re.MULTILINE)
_CAPTION = {
    "fig": re.compile(r"^:alt:.*\n\n(.+)", re.MULTILINE),
    "tab": re.compile(r"^:{3,}\{table\} (.+)", re.MULTILINE),
}
_ITEM = re.compile(r"\b(Figures?|Tables?) (\d+)(?: (and|to) (\d+))?")
_PROFILES = {
    "paper": "paper s|settled|reduced|smaller than the paper",
    "quick": r"quick profile|\d quick",
}


def figure_map(root: Path) -> list[dict]:
    """Return what is on the pages of the book in ``root``, in their order.

    Each is ``{name, caption, page, paper, of, commands, records}``: ``paper`` names the items of
    the paper that the caption does. Commands are ``of`` "paper", those of these items, or else of
    "page", all of that page, in the profiles that the item says it shows; the records those of the
    same tasks and models in ``records/``.
    """
    stored = [
        (record.id, whatever_source(record.run.task), record.run.model, record.run.profile)
        for record in Store(root / "records").all()
    ]
    entries = []
    for page in sorted((root / "book").glob("*.ipynb")):
        cells = nbformat.read(page, 4).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for name in _INCLUDED.findall(prose):
            text = (root / "book" / "generated" / f"{name}.md").read_text(encoding="utf-8")
            found = _CAPTION[name[:3]].search(text)
            caption = found[1].split(" Source: ")[0] if found else ""
            paper = _items(caption)
            names = [name for key in map(_key, paper) for name in ALIASES.get(key, (key,))]
            exact = [EXPERIMENTS[name] for name in dict.fromkeys(names) if name in EXPERIMENTS]
            shown = exact or [e for e in EXPERIMENTS.values() if e.chapter == page.stem]
            profiles = [p for p, words in _PROFILES.items() if re.search(words, text)] or ["paper"]
            wanted = {
                (whatever_source(run.task), run.model, profile)
                for e in shown
                for profile in profiles
                for run in e.runs(profile)
            }
            alike = [key for key, *what in stored if tuple(what) in wanted]
            commands = [command(e.name, profile) for profile in profiles for e in shown]
            entries.append(
                {
                    "name": name,
                    "caption": caption,
                    "page": f"book/{page.name}",
                    "paper": paper,
                    "of": "paper" if exact else "page",
                    "commands": commands or [f"papermill book/{page.name} out.ipynb"],
                    "records": sorted(f"records/{key}.json" for key in alike),
                }
            )
    return entries


def write_map(root: Path) -> None:
    """Write ``map.json`` into ``root``."""
    text = json.dumps(figure_map(root), indent=1, ensure_ascii=False)
    write_atomically(root / "map.json", f"{text}\n".encode())


def _items(caption: str) -> list[str]:
    """Return the figures and tables of the paper that a caption names, each once."""
    items = []
    for kind, first, joined, last in _ITEM.findall(caption):
        numbers = range(int(first), int(last) + 1) if joined == "to" else (first, last)
        items += [f"{kind.rstrip('s')} {number}" for number in numbers if number]
    return list(dict.fromkeys(items))


def _key(item: str) -> str:
    """Return "fig3" for "Figure 3", as an experiment or its alias is named."""
    return item.lower().replace("figure ", "fig").replace("table ", "table")
