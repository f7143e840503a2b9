"""The book: chapter sources -> executed notebooks -> a checked, offline site.

``notebooks/NN_slug.py`` is converted by jupytext, executed by papermill into
``book/NN_slug.ipynb``, checked, and built by jupyter-book. Needs the ``book`` extra.
"""

from companion.book.check import check
from companion.book.execute import ChapterError, execute, execute_all
from companion.book.site import build, stage
from companion.book.source import convert

__all__ = ["ChapterError", "build", "check", "convert", "execute", "execute_all", "stage"]
