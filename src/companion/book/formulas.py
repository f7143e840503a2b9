"""Formulas as MathML, which browsers draw and screen readers read without a script."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

# What TeX allows and docutils does not, or not well, and what stands for it.
_KNOWN = {
    r"\\dots\b": r"\\ldots",
    r"\\boldsymbol(?=\{\\[A-Z])": r"\\mathbf",  # Greek capitals stand upright
    r"\\boldsymbol\b": r"\\mathbfit",
    r"^\s*(?=[\^_])": "{}",  # a script of nothing
}
# Where MathML would space or stretch what TeX does not, or the other way round.
_MENDED = {
    r"<mo(?=[^>]*>[/.|]</mo>)": '<mo lspace="0" rspace="0"',
    r"<mo(?=>[{}]</mo>)": '<mo stretchy="false"',
    r"<mo(?=>&ApplyFunction;</mo>\s*<m(?!o))": '<mo rspace="0.17em"',  # "log x", but "max("
    r"(?<=<mtd>)(\s*<mo)(?=>[=∼≈≤≥]</mo>)": r'\1 form="infix"',  # a relation that begins a cell
}


def setup(app: Sphinx) -> None:
    """Register the renderer that ``html_math_renderer: mathml`` chooses."""
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math_block, None))


def to_mathml(tex: str, *, block: bool = False) -> str:
    """Return TeX, as far as docutils knows it, as MathML.

    Args:
        tex: without the dollars around it.
        block: a formula of its own lines, in display style.

    Raises:
        MathError, IndexError: docutils does not know it.
    """
    for name, known in _KNOWN.items():
        tex = re.sub(name, known, tex)
    mathml = tex2mathml(tex, as_block=block)
    for wrong, mended in _MENDED.items():
        mathml = re.sub(wrong, mended, mathml)
    return mathml


def _render(node: nodes.Node, *, block: bool = False) -> str:
    try:
        return to_mathml(node.astext(), block=block)
    except (MathError, IndexError) as error:
        logger = logging.getLogger(__name__)
        logger.warning("no MathML of %s: %s", node.astext(), error, location=node)
        return ""


def _visit_math(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(f'<span class="math">{_render(node)}</span>')
    raise nodes.SkipNode


def _visit_math_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula, which scrolls if it must, and its number beside it."""
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    translator.body.append(f'<div class="formula">{_render(node, block=True)}</div>')
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>\n")
    raise nodes.SkipNode
