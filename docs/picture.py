"""The README's picture is what a real run printed, after this ran.

Rule: nothing in the picture is written by hand. It runs a command, keeps what a terminal shows,
and draws that as SVG, under the title given:

    python docs/picture.py docs/images/run.svg "make demo" dtf --no-progress demo
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS = 100
LINES_MAX = 60
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
THEME = TerminalTheme(
    (24, 26, 31),
    (214, 218, 224),
    [
        (60, 64, 72), (240, 98, 98), (110, 200, 120), (230, 190, 90),
        (104, 160, 240), (200, 130, 220), (90, 195, 205), (214, 218, 224),
    ],
    [
        (120, 126, 138), (255, 130, 130), (140, 225, 150), (245, 210, 120),
        (140, 185, 255), (220, 160, 240), (120, 220, 228), (255, 255, 255),
    ],
)  # fmt: skip


def printed(command: list[str]) -> str:
    """What the command writes to a terminal of `COLUMNS` columns, colours included."""
    environment = os.environ | {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "LINES": "60"}
    environment.pop("NO_COLOR", None)
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return re.sub(r"[^\n]*\r(?!\n)", "", done.stdout)


def draw(text: str, title: str) -> str:
    """The text, with its ANSI colours, as an SVG picture of a terminal."""
    lines = text.rstrip().splitlines()[-LINES_MAX:]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("\n".join(lines)), soft_wrap=False)
    return console.export_svg(title=title, theme=THEME, code_format=FORMAT, unique_id="dtf")


def main() -> int:
    target, title, *command = sys.argv[1:]
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(draw(printed(command), title))
    return 0


if __name__ == "__main__":
    sys.exit(main())
