"""The API reference as Markdown, read off the sources: any tool that reads MyST can build it.

A line ``% api: MODULE`` of a page stands for the module's docstring and its public classes and
functions, ``% api: MODULE NAME ...`` for these names of it. Nothing is imported.
"""

import ast
import re
import textwrap
from pathlib import Path

from wrnn.errors import WrnnError

SOURCES = Path(__file__).parents[2]
_MARKER = re.compile(r"^% api: (\S+)(.*)$", re.MULTILINE)
_SECTION = re.compile(
    r"^(Args|Attributes|Raises|Returns):\n((?:(?: {4}.*)?(?:\n|\Z))+)", re.MULTILINE
)
_TITLES = {"Args": "Arguments"}
_ITEM = re.compile(r"^(\w[\w*]*(?:, \w+)*): ", re.MULTILINE)
_DOCTEST = re.compile(r"^>>> .*(?:\n\S.*)*", re.MULTILINE)
_CODE = re.compile(r"(```.*?```|`+[^`]+`+)", re.DOTALL)
_REFERENCE = re.compile(r":[a-z]+:`~?(?:[\w.]+\.)?(\w+)`")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_WIDTH = 72  # characters of a signature's line


def write_api(page: str) -> str:
    """Return a page with every ``% api:`` line replaced by what it stands for.

    Raises:
        WrnnError: there is no such module, or it does not have such a name.
    """
    modules = {match[0]: _Module(match[1], match[2].split()) for match in _MARKER.finditer(page)}
    labels = {name: module.label(name) for module in modules.values() for name in module.members}
    return _MARKER.sub(lambda match: modules[match[0]].markdown(labels), page)


class _Module:
    """A module's source, and the members of it that a page asks for, all public ones by default."""

    def __init__(self, name: str, wanted: list[str]):
        folder = SOURCES.joinpath(*name.split("."))
        path = next(
            (p for p in (folder.with_suffix(".py"), folder / "__init__.py") if p.is_file()), None
        )
        if path is None:
            raise WrnnError(f"the API reference names {name}: there is no such module")
        self.name, self.whole = name, not wanted
        self.source = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.source)
        found = {
            node.name: node
            for node in self.tree.body
            if isinstance(node, (*_FUNCTIONS, ast.ClassDef))
        }
        wanted = wanted or [name for name in found if not name.startswith("_")]
        for missing in set(wanted) - found.keys():
            raise WrnnError(f"the API reference names {name}.{missing}: there is no such name")
        self.members = {name: found[name] for name in wanted}

    def label(self, member: str) -> str:
        # Case does not count in a label: a class is told from the function that makes it.
        kind = "class-" * isinstance(self.members[member], ast.ClassDef)
        return re.sub(r"\W|_", "-", f"api-{self.name}-{kind}{member}".lower())

    def markdown(self, labels: dict[str, str]) -> str:
        parts = [f"### {self.name}"]
        if self.whole:
            parts.append(_prose(self.tree, labels))
        for name, node in self.members.items():
            parts.append(self._entry(name, node, labels))
        return "\n\n".join(part for part in parts if part)

    def _entry(self, name: str, node: ast.stmt, labels: dict[str, str]) -> str:
        """Return a member as a fold, named by its first sentence; a link to it opens the fold."""
        summary, _, rest = _prose(node, labels).partition("\n\n")
        title = re.sub(r"\[(`\w+`)\]\(\S+\)", r"\1", " ".join(summary.split()))
        parts = [f"({self.label(name)})=\n{self._definition(node)}", rest]
        if isinstance(node, ast.ClassDef):
            parts += [_method(item, labels) for item in node.body if _is_public(item)]
        body = "\n\n".join(part for part in parts if part)
        return f":::::{{dropdown}} `{name}`: {title}\n{body}\n:::::"

    def _definition(self, node: ast.FunctionDef | ast.ClassDef) -> str:
        """Return the code that says how a member is made or called: no body, no comments lost."""
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(ast.unparse(base) for base in node.bases)
            code = f"class {node.name}({bases})" if bases else f"class {node.name}"
            lines = self.source.splitlines()
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and not item.target.id.startswith("_"):
                    code += "\n" + "\n".join(lines[item.lineno - 1 : item.end_lineno])
                elif isinstance(item, _FUNCTIONS) and item.name == "__init__":
                    code += f"\n\n{_signature(item, node.name)}"
        else:
            code = _signature(node)
        return f"```python\n{code}\n```"


def _is_public(node: ast.stmt) -> bool:
    return (
        isinstance(node, _FUNCTIONS)
        and not node.name.startswith("_")
        and bool(ast.get_docstring(node))
    )


def _signature(node: ast.FunctionDef, name: str = "") -> str:
    """Return ``name(arguments) -> what``, wrapped; a method without its self."""
    arguments = ast.unparse(node.args)
    arguments = re.sub(r"^(self|cls)(, |$)", "", arguments)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and not name else ""
    text = f"{name or node.name}({arguments}){returns}"
    return textwrap.fill(
        text, _WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def _method(node: ast.FunctionDef, labels: dict[str, str]) -> str:
    """Return a method or a property as an entry of a definition list."""
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    called = node.name if decorators & {"property", "cached_property"} else _signature(node)
    body = textwrap.indent(_prose(node, labels), "  ")
    return f"`{' '.join(called.split())}`\n: {body.lstrip()}"


def _prose(node: ast.AST, labels: dict[str, str]) -> str:
    """Return a docstring as Markdown: lists for its sections, links for its references."""
    text = _SECTION.sub(_section, f"{ast.get_docstring(node) or ''}\n")
    text = _DOCTEST.sub(lambda match: f"```pycon\n{match[0]}\n```", text)
    text = _REFERENCE.sub(lambda match: _link(match[1], labels), text)
    pieces = _CODE.split(text)
    pieces[::2] = [re.sub(r"([$*<])", r"\\\1", piece) for piece in pieces[::2]]
    return re.sub(
        r"^\\\*\\\*(\w+)\\\*\\\*$", r"**\1**", "".join(pieces), flags=re.MULTILINE
    ).strip()


def _section(match: re.Match) -> str:
    kind, body = match[1], textwrap.dedent(match[2]).strip()
    if kind != "Returns":
        body = re.sub(r"^ {4}", "  ", _ITEM.sub(r"- `\1`: ", body), flags=re.MULTILINE)
    return f"**{_TITLES.get(kind, kind)}**\n\n{body}\n\n"


def _link(name: str, labels: dict[str, str]) -> str:
    return f"[`{name}`](#{labels[name]})" if name in labels else f"`{name}`"
