"""Every link in the documentation resolves after this exits with 0.

Rule: a promise names the test that can fail. A link to a Python file whose text is a name in
backquotes, or whose anchor is a name, holds only while the file defines that name.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"!?\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
TEST = re.compile(r"^`(\w+)`$")


def pages() -> list[Path]:
    """README and everything below docs/ and examples/."""
    below = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return [ROOT / "README.md", *sorted(path for path in below if "node_modules" not in path.parts)]


def anchors(page: Path) -> set[str]:
    """The anchors GitHub makes of the headings of a page."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", page.read_text())):
        text = LINK.sub(lambda link: link["text"], heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 1
        while slug in found:
            slug, number = f"{slug.removesuffix(f'-{number - 1}')}-{number}", number + 1
        found.add(slug)
    return found


def problem(page: Path, text: str, target: str) -> str | None:
    """Why one link does not hold, or None."""
    if target.startswith(("https://", "http://", "mailto:")):
        return None
    name, _, anchor = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    if not path.exists():
        return "there is no such file"
    if anchor and path.suffix == ".md" and anchor not in anchors(path):
        return "the page has no such heading"
    test = TEST.match(text)
    wanted = anchor or (test[1] if test else "")
    if wanted and path.suffix == ".py" and not _defines(path, wanted):
        return f"the file does not define {wanted}"
    return None


def _defines(path: Path, name: str) -> bool:
    return re.search(rf"^\s*(async )?(def|class) {name}\b", path.read_text(), re.M) is not None


def problems() -> list[str]:
    """One line for each link that does not hold."""
    found = []
    for page in pages():
        for link in LINK.finditer(FENCE.sub("", page.read_text())):
            why = problem(page, link["text"], link["target"])
            if why:
                found.append(f"{page.relative_to(ROOT)}: [{link['text']}]({link['target']}): {why}")
    return found


if __name__ == "__main__":
    broken = problems()
    print("\n".join(broken) if broken else "every link resolves")
    sys.exit(bool(broken))
