"""Fenced blocks of code in the documents."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
#: A comment behind a command.
_COMMENT = re.compile(r"\s\s+#.*$|^#.*$", re.MULTILINE)
_SUBSTITUTION = re.compile(r"\$\([^)]*\)")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block, with the page and the line on which it begins."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def documents() -> list[Path]:
    """Every page for people."""
    return [
        *sorted(ROOT.glob("*.md")),
        ROOT / "examples" / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]


def blocks() -> Iterator[Block]:
    """All blocks; one without a language holds commands."""
    for path in documents():
        text = path.read_text()
        for found in _BLOCK.finditer(text):
            yield Block(
                page=str(path.relative_to(ROOT)),
                line=text.count("\n", 0, found.start()) + 1,
                language=found[2] or "bash",
                text=re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE),
            )


def commands(text: str) -> list[list[str]]:
    """The commands of a block as words: continued lines joined, comments and pipes cut."""
    plain = _SUBSTITUTION.sub("SUBSTITUTED", _COMMENT.sub("", text.replace("\\\n", " ")))
    found = []
    for line in plain.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        lexer.commenters = ""
        words: list[str] = []
        for word in lexer:
            if word in ("|", "&&", ";"):
                found.append(words)
                words = []
            else:
                words.append(word)
        found.append(words)
    return [words for words in found if words]
