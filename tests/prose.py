"""Lint prose: docstrings, schema texts, decision reasons, docs, README, and the comments of YAML files.

``python -m tests.prose [PATH...]`` prints each finding with its place and the remedy, and exits with 1 if there is one.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("policies", "scaler", "simulators")
PAGES: Final = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "config")
MAX_SENTENCE_WORDS: Final = 35
MAX_SUMMARY_CHARS: Final = 90
WORDS: Final = {
    r"(?:a|an|each|every|per|one|this|that|next|last|the|two|three|N) turns?\b": "write tick",
    r"\btold\b|\btells\b": "write reports, reported, or names",
    r"\breplicas?['’]s? worth\b|\bworth of work\b": "write replica equivalents",
    r"\b(?:nobody|somebody|whoever|anybody|everybody)\b": "name the component",
    r"\bwritten off\b": "write abandoned",
    r"\bdoomed\b": "write interruption pending",
    r"\b(?:liars?|doubted|doubtful)\b": "write suspected false zero",
    r"\bslow hand\b": "write SLO correction",
    r"\bdear(?:er|est)?\b": "write expensive",
    r"\bbesides?\b": "write next to, or compared with",
    r"\b(?:comes to|is let be|heed(?:s|ed)?|sow(?:s|n)?|retrospect|looked back)\b": "say what happens",
    r"\bat the (?:most|least)\b": "write at most, at least",
    r"\bso (?:many|long)\b(?! as)": "name the quantity",
    r"(?:^|(?<=[.!?:;] ))(?:What|Who|How soon) (?![^.]*\?)": "name the subject",
}
"""Patterns of the vocabulary that the project does not use, and the remedy of each."""
RULES: Final = [(re.compile(pattern), remedy) for pattern, remedy in WORDS.items()]


class Text(NamedTuple):
    """A text with the place where it starts."""

    path: Path
    line: int
    text: str


class Finding(NamedTuple):
    """A place in a file, and the remedy of what stands there."""

    path: Path
    line: int
    remedy: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.remedy}"


def texts(path: Path) -> Iterator[Text]:
    """Yield the prose of a Python, Markdown or YAML file."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
                yield Text(path, node.lineno, node.value)
    elif path.suffix == ".yaml":
        for block in re.finditer(r"(?:^|(?<= ))# .*(?:\n *# .*)*", source, re.MULTILINE):
            yield Text(path, source.count("\n", 0, block.start()) + 1, re.sub("(?m)^ *# ", "", block[0]))
    else:
        yield from _paragraphs(path, source)


def without_code(markdown: str) -> str:
    """Return a Markdown text without code and link targets, line by line as before."""
    text = re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), markdown, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "code", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


def _paragraphs(path: Path, source: str) -> Iterator[Text]:
    """Yield the paragraphs, list items and table cells of a Markdown file, without code and link targets."""
    source = without_code(source)
    start, lines = 1, list[str]()
    for number, line in enumerate([*source.split("\n"), ""], 1):
        if line.startswith("|"):
            yield from (Text(path, number, cell.strip()) for cell in line.split("|"))
        elif re.match(r"\s*(?:[-*#>]|\d+\.)\s|\s*$", line):
            if lines:
                yield Text(path, start, " ".join(lines))
            start, lines = number, [re.sub(r"^\s*(?:[-*>]|#+|\d+\.)\s", "", line)]
        else:
            lines.append(line.strip())


def findings(text: Text) -> Iterator[Finding]:
    """Yield the findings in a text: words, and sentences that are too long."""
    flat = re.sub(r"[ \t]*\n[ \t]*(?=\S)", " ", text.text)
    for rule, remedy in RULES:
        for match in rule.finditer(flat):
            line = text.line + text.text[: match.start()].count("\n")
            yield Finding(text.path, line, f"{match[0].strip()!r}: {remedy}")
    for sentence in re.split(r"(?<=[.!?:;])\s|\n\s*\n", text.text):
        if (words := len(sentence.split())) > MAX_SENTENCE_WORDS:
            start = " ".join(sentence.split()[:6])
            yield Finding(text.path, text.line, f"{words} words in {start!r}...: split at {MAX_SENTENCE_WORDS}")


def long_summaries(path: Path) -> Iterator[Finding]:
    """Yield the docstrings whose first line is too long."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            summary = (ast.get_docstring(node) or "").split("\n")[0]
            if len(summary) > MAX_SUMMARY_CHARS:
                line = getattr(node, "lineno", 1)
                yield Finding(path, line, f"first line of {len(summary)} characters: {MAX_SUMMARY_CHARS} at most")


def files(arguments: list[str]) -> list[Path]:
    """Return the files to lint: those named, or all of the project."""
    roots = [ROOT / name for name in arguments or (*PACKAGES, *PAGES)]
    found = [
        file for root in roots if root.exists() for file in ([root] if root.is_file() else sorted(root.rglob("*")))
    ]
    return [file for file in found if file.suffix in {".py", ".md", ".yaml"} and "lab" not in file.parts]


def main(arguments: list[str]) -> int:
    """Print the findings; return 1 if there are any."""
    result: list[Finding] = []
    for file in files(arguments):
        for text in texts(file):
            result += findings(text)
        if file.suffix == ".py":
            result += long_summaries(file)
    for finding in result:
        print(finding)
    print(f"prose: {len(result)} findings", file=sys.stderr)
    return 1 if result else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
