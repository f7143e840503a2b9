"""Execute a chapter: jupytext source -> papermill -> a notebook that is the same every time.

Nothing of the book is touched before the whole chapter has run. The executed notebook carries its
provenance in ``metadata.wrnn``: the hash of its source, the parameters, and the hash of every
figure and table file that it wrote.
"""

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from companion.book.source import METADATA, check_parameters, convert, keep_tags, sha256
from wrnn.errors import WrnnError

WRITTEN = ("figures/*.png", "figures/*.svg", "generated/*.md", "generated/*.csv")


class ChapterError(RuntimeError):
    """A chapter did not run cleanly, or the site could not be built; the message is one line.

    The traceback of a failed cell is attached as an exception note.
    """


def execute(
    source: str | Path, *, destination: str | Path, parameters: Mapping | None = None
) -> Path:
    """Execute one chapter and put its notebook, figures and tables into ``destination``.

    The chapter runs in its source's folder with ``WRNN_BOOK`` naming a scratch folder, where it
    writes ``figures/*.png``, ``figures/*.svg``, ``generated/*.md`` and ``generated/*.csv``. Sets an
    environment variable while it runs, so only one chapter at a time can be executed in a process;
    :func:`execute_all` uses several.

    Args:
        source: the py:percent chapter.
        destination: folder of the published notebooks; made where it does not exist.
        parameters: values for the chapter's parameters cell.

    Returns:
        The executed notebook's path.

    Raises:
        WrnnError: a parameter that the chapter does not have or of another type, before anything
            runs; or bad input met by the chapter itself.
        ChapterError: a cell failed or wrote to stderr. Nothing in ``destination`` has changed.
    """
    source, destination = Path(source), Path(destination)
    parameters = dict(parameters or {})
    notebook, digest = convert(source), sha256(source)
    check_parameters(source, notebook, parameters)
    with tempfile.TemporaryDirectory(prefix="wrnn-chapter-") as folder:
        scratch = Path(folder)
        with _written_to(folder):
            notebook = _run(source, notebook, parameters)
        _clean(source, notebook)
        files = sorted(path for pattern in WRITTEN for path in scratch.glob(pattern))
        notebook.metadata.wrnn = {
            "source_sha256": digest,
            "parameters": parameters,
            "files": {path.relative_to(scratch).as_posix(): sha256(path) for path in files},
        }
        nbformat.write(notebook, scratch / f"{source.stem}.ipynb")
        return _publish(scratch, destination, source.stem)


def execute_all(
    notebooks_dir: str | Path,
    *,
    destination: str | Path,
    parameters: Mapping | None = None,
    only: str = "",
    jobs: int = 2,
) -> list[Path]:
    """Execute every chapter of ``notebooks_dir`` by name, ``jobs`` at a time, with a progress bar.

    ``only`` is how the names of those begin that are wanted, such as "03".

    Kernels use one OpenMP thread unless ``OMP_NUM_THREADS`` says otherwise, so that what a chapter
    computes does not depend on how many run beside it.

    Returns:
        The executed notebooks, in the order of their names.

    Raises:
        WrnnError, ChapterError: as :func:`execute`; chapters not yet begun are then not run.
    """
    sources = sorted(Path(notebooks_dir).glob(f"{only}*.py"))
    if not sources:
        raise WrnnError(f"no chapter sources ({only}*.py) in {notebooks_dir}")
    for source in sources:
        check_parameters(source, convert(source), dict(parameters or {}))
    context = multiprocessing.get_context("spawn")
    running: dict[Future, str] = {}
    written = []
    with (
        ProcessPoolExecutor(jobs, context, _use_one_thread) as pool,
        tqdm(total=len(sources), desc="chapters", unit="chapter", disable=None) as progress,
    ):
        # Not all at once: after a failure, nothing more must begin.
        while sources or running:
            while sources and len(running) < jobs:
                source = sources.pop(0)
                future = pool.submit(
                    execute, source, destination=destination, parameters=parameters
                )
                running[future] = source.stem
            progress.set_postfix_str(", ".join(running.values()))
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                written.append(future.result())
                progress.update()
    return sorted(written)


def _use_one_thread() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@contextmanager
def _written_to(folder: str) -> Iterator[None]:
    """Have chapters write their figures and tables to a folder."""
    before = os.environ.get("WRNN_BOOK")
    os.environ["WRNN_BOOK"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["WRNN_BOOK"]
        else:
            os.environ["WRNN_BOOK"] = before


def papermill_run(source: Path, notebook: NotebookNode, parameters: Mapping) -> NotebookNode:
    """Execute a notebook in its source's folder with papermill, quietly.

    A kernel that never answers is started once more: between the choice of its ports and their use
    another kernel can have taken one.
    """
    options = dict(cwd=source.parent, progress_bar=False, log_output=False, record_timing=False)
    options["extra_arguments"] = ["--log-level=CRITICAL"]
    options["coalesce_streams"] = True  # how the kernel cuts up what is printed is chance
    try:
        return papermill.execute_notebook(notebook, None, parameters, **options)
    except RuntimeError as error:
        if "before replying" not in str(error):
            raise
        return papermill.execute_notebook(notebook, None, parameters, **options)


def _run(source: Path, notebook: NotebookNode, parameters: dict) -> NotebookNode:
    try:
        notebook = papermill_run(source, notebook, parameters)
    except PapermillExecutionError as error:
        reason = (error.evalue.strip().splitlines() or [""])[0]
        if error.ename == "WrnnError":
            raise WrnnError(f"{source.name}: {reason}") from None
        failure = ChapterError(
            f"{source.name}: code cell {error.exec_count} failed: {error.ename}: {reason}"
        )
        failure.add_note("\n".join(error.traceback))
        raise failure from None
    except DeadKernelError:
        raise ChapterError(f"{source.name}: the kernel died, perhaps out of memory") from None
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                line = output.text.strip().splitlines()[0]
                raise ChapterError(
                    f"{source.name}: code cell {cell.execution_count} wrote to stderr: {line}"
                )
    return notebook


def _clean(source: Path, notebook: NotebookNode) -> None:
    """Leave in a notebook only what its source and its results decide."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        keep_tags(cell)
        if "injected-parameters" in cell.metadata.get("tags", ()):
            cell.id = f"{source.stem}-parameters"


def _publish(scratch: Path, destination: Path, slug: str) -> Path:
    """Move files first and the notebook last; remove what the old notebook alone had written.

    A file that another notebook lists by now has moved to that chapter, and stays.
    """
    target = destination / f"{slug}.ipynb"
    old = nbformat.read(target, 4).metadata.get("wrnn", {}) if target.exists() else {}
    new = nbformat.read(scratch / target.name, 4).metadata.wrnn
    for name in [*new.files, target.name]:
        path = destination / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        shutil.copyfile(scratch / name, partial)
        os.replace(partial, path)
    left = set(old.get("files", ())) - set(new.files)
    for other in destination.glob("*.ipynb") if left else ():
        left -= set(nbformat.read(other, 4).metadata.get("wrnn", {}).get("files", ()))
    for name in left:
        (destination / name).unlink(missing_ok=True)
    return target
