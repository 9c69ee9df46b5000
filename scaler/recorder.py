"""Writes the daemon's journal, and reports its state to health, metrics and the log."""

from __future__ import annotations

from collections.abc import Callable

from scaler.journal.reader import Unread
from scaler.journal.schema import refusal
from scaler.journal.writer import JournalWriter
from scaler.telemetry.health import Health
from scaler.telemetry.log import log
from scaler.telemetry.metrics import Metrics


class Recorder:
    """Writes records to a journal, if one is configured.

    A lost record is reported, and stops nothing.
    """

    def __init__(self, journal: JournalWriter | None, metrics: Metrics, health: Health) -> None:
        self._journal = journal
        self._metrics = metrics
        self._health = health
        self._error: str | None = None
        self._lost = 0
        if journal is not None:
            self._report(journal)

    def write(self, write: Callable[[JournalWriter], None]) -> None:
        """Call `write` with the journal, and report the journal's state."""
        if self._journal is not None:
            write(self._journal)
            self._report(self._journal)

    def report_unread(self, directory: str, unread: Unread) -> None:
        """Report the lines of the journal that could not be read at a start."""
        places = unread.damaged
        self._metrics.journal_damaged.set(len(places) + unread.schemas.total())
        if places:
            remedy = "the lines were skipped; check the disk, and whether a file was edited by hand"
            log.warning("journal", damaged_lines=len(places), first=places[0], remedy=remedy)
        for schema, records in unread.schemas.items():
            error = f"{directory}: {refusal(schema)}"
            log.warning(
                "journal", unreadable_records=records, error=error, remedy="the daemon starts without these records"
            )

    def close(self) -> None:
        """Close the journal's files."""
        if self._journal is not None:
            self._journal.close()

    def _report(self, journal: JournalWriter) -> None:
        """Set metric and health to the journal's state, and log a change of it once."""
        lost, error = journal.lost - self._lost, journal.error
        if error and not self._error:
            log.error(
                "journal",
                error=error,
                remedy="ticks continue, but records are lost until the journal is writable again",
            )
        elif self._error and not error:
            log.info("journal", lost=journal.lost, remedy="the journal is writable again")
        elif lost and not error:
            log.error(
                "journal", lost=lost, error="the journal's files were removed or replaced; it continues in new files"
            )
        self._lost, self._error = journal.lost, error
        self._metrics.journal_lost.set(journal.lost)
        self._health.report("journal", f"cannot write records: {error}; {journal.lost} are lost" if error else "")
