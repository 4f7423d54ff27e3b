"""What the source says beside a name. Rule: the words on a reference page are those in the code."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from types import ModuleType


@cache
def attribute_docs(module: ModuleType) -> dict[tuple[str, str], str]:
    """(class or "", attribute) -> the string literal right below its assignment."""
    tree = ast.parse(inspect.getsource(module))
    found = _docs_in("", tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            found |= _docs_in(node.name, node.body)
    return found


def _docs_in(owner: str, body: list[ast.stmt]) -> dict[tuple[str, str], str]:
    found = {}
    for statement, below in pairwise(body):
        name = _assigned(statement)
        if name and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[owner, name] = one_line(str(below.value.value))
    return found


def _assigned(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.AnnAssign):
        target: ast.expr = statement.target
    elif isinstance(statement, ast.Assign):
        target = statement.targets[0]
    else:
        return None
    return target.id if isinstance(target, ast.Name) else None


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def paragraphs(text: str | None) -> str:
    """A docstring as Markdown paragraphs, each on one line."""
    cleaned = inspect.cleandoc(text or "")
    return "\n\n".join(escape(one_line(part)) for part in cleaned.split("\n\n"))


def escape(text: str) -> str:
    """The text with `<...>` shown, outside code spans, rather than read as HTML."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)


def cell(text: str) -> str:
    """The text for a cell of a Markdown table."""
    return escape(text).replace("|", "\\|")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; cells must be escaped already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
