"""Measure the readability of docs: ``python -m tests.readability`` prints the Flesch reading ease of each page.

A tutorial or how-to guide below 45 fails, as do the texts of the schema. Source of the measure: Flesch, 1948.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import textstat

from scaler.config.load import json_schema
from tests.prose import without_code

DOCS: Final = Path(__file__).parents[1] / "docs"
MIN_EASE: Final = 45.0
GUIDES: Final = ("tutorials", "how-to")


def prose(markdown: str) -> str:
    """Return the sentences of a Markdown text, without code, tables, headings, comments and images."""
    text = re.sub(r"!\[[^\]]*\]|<!--.*?-->|^[|#].*?$", "", without_code(markdown), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"[][*_]", "", text)


def descriptions(schema: object) -> list[str]:
    """Return the descriptions in a schema, each once."""
    if isinstance(schema, dict):
        own = [schema["description"]] if isinstance(schema.get("description"), str) else []
        return list(dict.fromkeys([*own, *(text for part in schema.values() for text in descriptions(part))]))
    return [text for part in schema for text in descriptions(part)] if isinstance(schema, list) else []


def main() -> int:
    """Print a line for each page; return 1 if one that must be easy is not."""
    texts = {
        str(page.relative_to(DOCS)): prose(page.read_text(encoding="utf-8")) for page in sorted(DOCS.rglob("*.md"))
    }
    texts["schema descriptions"] = prose(" ".join(descriptions(json_schema())))
    failed = 0
    for name, text in texts.items():
        ease = textstat.flesch_reading_ease(text)
        must_be_easy = name.startswith((*GUIDES, "schema"))
        is_hard = must_be_easy and ease < MIN_EASE
        failed += is_hard
        print(f"{ease:6.1f}  {name}{f'  (below {MIN_EASE:g})' if is_hard else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
