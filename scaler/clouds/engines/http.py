"""HTTP to engines, with the same credentials and trust as to sources."""

from __future__ import annotations

from scaler.sources.http import Access, refusal, session

__all__ = ["Access", "refusal", "session"]
