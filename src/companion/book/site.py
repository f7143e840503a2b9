"""Build the site from the checked pages with jupyter-book, every warning an error."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from companion.book.api import write_api
from companion.book.cells import caption
from companion.book.execute import ChapterError
from wrnn.errors import WrnnError

_OPTIONS = ["-W", "-n", "--all", "--keep-going"]
_PAGES = ("*.md", "*.bib", "_static", "_extra")
_CACHES = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
_EXECUTED = ("*.ipynb", "figures", "generated")
_LISTED = "% list of figures and tables\n"
_INCLUDED = re.compile(r"\{include\} (\S+\.md)")
_LABEL = re.compile(r"^:name: (\S+)", re.MULTILINE)


def stage(source_root: str | Path, destination: str | Path, *, executed: bool = True) -> Path:
    """Copy the book's configuration, pages and sources to a fresh folder, away from the checkout.

    The API reference is written into its page, and the list of figures and tables of executed
    chapters into theirs, as Markdown.

    Args:
        source_root: folder that holds ``_config.yml``, ``_toc.yml`` and ``book/``.
        destination: emptied first.
        executed: also the executed chapters with their figures and tables; without them the folder
            is ready for :func:`companion.book.execute_all`.

    Returns:
        The staged ``book/`` folder.

    Raises:
        WrnnError: ``source_root`` holds no book, or its API reference names what is not there.
    """
    source_root, destination = Path(source_root), Path(destination)
    for name in ("_config.yml", "_toc.yml", "book"):
        if not (source_root / name).exists():
            raise WrnnError(f"no book in {source_root.resolve()}: {name} is missing")
    shutil.rmtree(destination, ignore_errors=True)
    book = destination / "book"
    book.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(source_root / name, destination)
    for pattern in _PAGES + (_EXECUTED if executed else ()):
        for path in (source_root / "book").glob(pattern):
            if path.is_dir():
                shutil.copytree(path, book / path.name)
            elif path.suffix == ".md":
                page = write_api(path.read_text(encoding="utf-8"))
                if executed and _LISTED in page:
                    page = page.replace(_LISTED, _list_figures(path.parent))
                (book / path.name).write_text(page, encoding="utf-8")
            else:
                shutil.copy(path, book)
    if (source_root / "notebooks").is_dir():
        shutil.copytree(source_root / "notebooks", destination / "notebooks", ignore=_CACHES)
    return book


def _list_figures(book: Path) -> str:
    """Return a section for every executed chapter, with the figures and tables that it includes."""
    lines = []
    for path in sorted(book.glob("*.ipynb"), key=lambda path: (path.stem != "index", path.stem)):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        files = (book / name for name in _INCLUDED.findall(prose))
        texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
        labels = [(label[1], caption(text)) for text in texts if (label := _LABEL.search(text))]
        if labels:  # the title as text, since a link's own is not there yet for the page's contents
            title = re.search(r"^# (.+)$", prose, re.MULTILINE)[1]
            lines += [f"## [{title}](./{path.name})", ""]
        for label, text in labels:
            lines.append(f"- {{numref}}`{label}`: {text.split('. ')[0].rstrip('.')}.")
        lines.append("")
    return "\n".join(lines)


def build(source_root: str | Path, html_dir: str | Path) -> Path:
    """Build the site of the book in ``source_root`` into ``html_dir``; quiet when all is well.

    Args:
        source_root: folder that holds ``_config.yml``, ``_toc.yml`` and ``book/``.
        html_dir: replaced as a whole once the build has succeeded, untouched otherwise.

    Returns:
        The site's ``index.html``.

    Raises:
        ChapterError: jupyter-book reported a warning or an error; those lines of
            its log have been written to stderr.
    """
    html = Path(html_dir).resolve()
    html.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=html.parent) as folder:
        staging = Path(folder) / "source"
        stage(source_root, staging)
        command = "from jupyter_book.cli.main import main; main()"
        result = subprocess.run(
            [sys.executable, "-c", command, "build", str(staging), *_OPTIONS],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode:
            lines = result.stdout.splitlines()
            causes = [line for line in lines if re.search(r"WARNING|ERROR|CRITICAL|Error: ", line)]
            print(*(causes or lines[-20:]), sep="\n", file=sys.stderr)
            raise ChapterError("jupyter-book did not build the site; its complaints are above")
        if html.exists():
            html.rename(Path(folder) / "previous")
        (staging / "_build" / "html").rename(html)
    return html / "index.html"
