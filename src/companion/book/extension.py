"""What the site does beyond jupyter-book; a Sphinx extension that ``_config.yml`` names.

Cells show what a reader needs (:mod:`companion.book.cells`), formulas are MathML
(:mod:`companion.book.formulas`), every figure has a face for dark pages and every table is offered
as CSV. Pages outside the numbered parts count their own sections, figures, tables and equations
(A.1, A.2), every page describes itself and offers its files, and what the theme gets wrong for a
screen reader is put right.
"""

import csv
import json
import re
import shutil
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

from companion.book import formulas
from companion.book.cells import show_cells

logger = logging.getLogger(__name__)
_APPENDIX = re.compile(r"(?:.*/)?([A-Z]\d*)_")
# Spaces that no line may break at: as in "n = 3", "99 %" and powers of ten.
_WHOLE = re.compile(
    r"(?<=[≤≥<>≈=]) (?=\S)|(?<=\b\w) (?=[≤≥<>≈=] )|(?<=[\d\]]) (?=%)"
    r"|(?<=\d) (?=[x×] \d)|(?<=\d [x×]) (?=\d)"
)
_PUNCTUATION = re.compile(r"[.,;:!?)\]’”]+")
_MENDED = {
    # Names that hide the words that stand on the button, and a list whose items are not list items.
    ' aria-label="Toggle hidden content"': "",
    ' title="Search" aria-label="Search"': ' title="Search"',
    ' aria-label="Color mode"': ' aria-label="light, dark or system settings: color mode"',
    ' role="list" class="citation-list"': ' class="citation-list"',
    ' role="doc-biblioentry"': "",
}


def show(app: Sphinx, page: str, source: list[str]) -> None:
    """Leave of a chapter's cells what its page shows; Sphinx copies the notebook itself whole."""
    path = Path(app.env.doc2path(page))
    if path.suffix == ".ipynb":
        notebook = json.loads(source[0])
        show_cells(notebook, path.parent / "generated")
        source[0] = json.dumps(notebook)


class Faces(SphinxTransform):
    """Put ``NAME-dark.png`` beside a figure's ``NAME.png``, each for pages of its theme."""

    default_priority = 200

    def apply(self, **_: object) -> None:
        """Add the second image where there is one; warn where alternative text is missing."""
        folder = Path(self.env.doc2path(self.env.docname)).parent
        for image in list(self.document.findall(nodes.image)):
            if not image.get("alt"):
                logger.warning("figure %s has no alternative text", image["uri"], location=image)
            path = Path(image["uri"])
            dark = path.with_name(f"{path.stem}-dark{path.suffix}")
            if (folder / dark).is_file():
                second = image.copy()
                second["uri"] = dark.as_posix()
                second["ids"], second["names"] = [], []
                image["classes"] = [*image["classes"], "only-light"]
                second["classes"] = [*second["classes"], "only-dark"]
                image.parent.insert(image.parent.index(image) + 1, second)


def offer_tables(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Write every table of a page as CSV, with a link in its caption."""
    if app.builder.format != "html":
        return
    folder = Path(app.outdir, "_tables")
    folder.mkdir(exist_ok=True)
    for count, table in enumerate(list(doctree.findall(nodes.table)), start=1):
        name = table["names"][0] if table["names"] else f"{Path(page).name}-{count}"
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            for row in table.findall(nodes.row):
                csv.writer(file).writerow(" ".join(e.astext().split()) for e in row.children)
        link = f'<a class="table-file" href="{"../" * page.count("/")}_tables/{name}.csv" download>'
        link = nodes.raw("", f'{link}CSV<span class="visually-hidden"> of this table</span></a>')
        link["format"] = "html"
        caption = table.next_node(nodes.title)
        if caption is not None:
            caption += [nodes.Text(" "), link]
        else:
            table.parent.insert(table.parent.index(table) + 1, nodes.paragraph("", "", link))


def keep_together(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Let no line break within a quantity, nor between a formula and the punctuation after it."""
    for text in list(doctree.findall(nodes.Text)):
        kind = (nodes.literal, nodes.math, nodes.FixedTextElement)
        if not (text.parent is None or isinstance(text.parent, kind)):
            text.parent.replace(text, nodes.Text(_WHOLE.sub("\N{NO-BREAK SPACE}", text)))
    for formula in list(doctree.findall(nodes.math)):
        after = formula.next_node(descend=False, siblings=True)
        mark = isinstance(after, nodes.Text) and _PUNCTUATION.match(after)
        if mark:
            parent, place = formula.parent, formula.parent.index(formula)
            both = nodes.inline("", "", formula, nodes.Text(mark[0]), classes=["whole"])
            parent[place : place + 2] = [both, nodes.Text(after[mark.end() :])]


def number_by_page(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Number what stands on an appendix by its letter, on other unnumbered pages by 0."""
    changed = []
    for page, kinds in env.toc_fignumbers.items():
        if env.toc_secnumbers.get(page):
            continue
        appendix = _APPENDIX.match(page)
        letter = appendix[1] if appendix else "0"
        for kind, numbers in kinds.items():
            kinds[kind] = {name: (letter, n) for n, name in enumerate(numbers, start=1)}
        if appendix:
            _number_sections(env, page, letter)
        changed.append(page)
    return changed


def _number_sections(env: BuildEnvironment, page: str, letter: str) -> None:
    """Give an appendix's title and its sections the numbers A, A.1, A.1.1."""
    numbers = env.toc_secnumbers.setdefault(page, {})

    def walk(entries: nodes.Node, above: tuple) -> None:
        items = [item for item in entries.children if isinstance(item, nodes.list_item)]
        for count, item in enumerate(items, start=1):
            number = (*above, count) if above else (letter,)
            for reference in item.children[0].findall(nodes.reference):
                reference["secnumber"] = numbers[reference["anchorname"]] = number
            for below in item.children[1:]:
                if isinstance(below, nodes.bullet_list):
                    walk(below, number)

    walk(env.tocs[page], ())


def describe(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document) -> None:
    """Say in the head of a page what it is about, and offer its files at its foot."""
    if doctree is None:
        return
    paragraphs = (
        p.astext() for p in doctree.findall(nodes.paragraph) if p.parent.tagname == "section"
    )
    text = " ".join(next(paragraphs, "").split())
    if len(text) > 200:
        text = text[:200].rsplit(" ", 1)[0] + " …"
    title = f"{re.sub('<[^>]+>', '', context['title'])}: {app.config.html_title}"
    tags = {"og:type": "article", "og:site_name": app.config.html_title, "og:title": title}
    tags |= {"og:description": text, "twitter:card": "summary"}
    lines = [f'<meta property="{name}" content="{escape(value)}">' for name, value in tags.items()]
    lines.append(f'<meta name="description" content="{escape(text)}">')
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)
    source = Path(app.srcdir, "notebooks", f"{Path(page).name}.py")
    if source.is_file():
        up = "../" * page.count("/")
        files = {f"_sources/{page}.ipynb": "notebook", f"_sources/{source.name}": "source"}
        links = [f'<a href="{up}{file}" download>{kind}</a>' for file, kind in files.items()]
        links.append(f'<a href="{up}book/citing.html">cite</a>')
        context["body"] += f'<p class="chapter-files">This chapter: {" · ".join(links)}</p>'


def mend(app: Sphinx, error: Exception | None) -> None:
    """Copy the chapters' sources into the site and put right what the theme wrote."""
    if error is not None or app.builder.name != "html":
        return
    site = Path(app.outdir)
    for source in Path(app.srcdir, "notebooks").glob("*.py"):
        shutil.copy(source, site / "_sources")
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for wrong, right in _MENDED.items():
            text = text.replace(wrong, right)
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict:
    """Register with Sphinx."""
    formulas.setup(app)
    app.connect("env-get-updated", number_by_page, priority=900)  # once Sphinx has numbered all
    app.connect("source-read", show)
    app.add_transform(Faces)
    app.connect("doctree-resolved", offer_tables)
    app.connect("doctree-resolved", keep_together)
    app.connect("html-page-context", describe)
    app.connect("build-finished", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
