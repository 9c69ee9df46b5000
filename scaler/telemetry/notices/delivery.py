"""Delivers notices to a destination: a bounded queue, few messages a minute, retries.

A message is sent in a daemon thread, so that a slow destination delays neither a tick nor the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

from scaler.clock import stopwatch_s
from scaler.config.secret import Secret
from scaler.ports import Misconfigured
from scaler.supervised_tasks import in_daemon_thread, summary
from scaler.telemetry.log import log
from scaler.telemetry.notices.message import Message, messages
from scaler.telemetry.notices.tracker import Notice

MAX_QUEUED: Final = 1000
"""Maximum number of notices that wait for one destination."""
ROUND_S: Final = 60.0
"""Pause after each round of messages. The notices of a round share a message where they are many. Seconds."""
LIMIT_S: Final = 30.0
"""Maximum time of one attempt. Seconds."""
FIRST_PAUSE_S: Final = 5.0
"""Pause after a failed attempt; each further one is twice as long. Seconds."""
MAX_PAUSE_S: Final = 300.0
MAX_AGE_S: Final = 21_600.0
"""Age from which a notice is dropped that could not be sent: six hours. Seconds."""
Send = Callable[[str, Message], None]


class Destination:
    """One destination. `counts` has its notices and failed attempts by result."""

    def __init__(
        self,
        name: str,
        url: Secret,
        dashboard_url: str | None,
        report: Callable[[str], None],
        send: Send,
    ) -> None:
        """`report` takes the problem of the destination, empty for none.

        `send` sends one message, in a thread.
        """
        self.name = name
        self.counts: Counter[str] = Counter(sent=0, failed=0, dropped=0)
        self._url = url
        self._dashboard_url = dashboard_url
        self._report = report
        self._send = send
        self._queue: deque[tuple[float, Notice]] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._attempt: asyncio.Future[None] | None = None
        self._closing = asyncio.Event()
        self._is_full = False
        self._problem = ""

    def offer(self, notice: Notice) -> None:
        """Queue a notice, or drop it where the queue is full."""
        if len(self._queue) >= MAX_QUEUED:
            self._drop(1, f"{MAX_QUEUED} notices wait already", is_first=not self._is_full)
            self._is_full = True
            return
        self._is_full = False
        self._queue.append((stopwatch_s(), notice))
        self._idle.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Send what is queued, in rounds, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                await self._send_round()
            self._idle.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), ROUND_S)

    async def drained(self, limit_s: float) -> None:
        """Send what is queued without a pause, for at most `limit_s`."""
        self._closing.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), limit_s)

    async def try_once(self, message: Message) -> str:
        """Send one message. Return why that failed; empty where it did not."""
        if self._attempt is not None and not self._attempt.done():
            return "the attempt before this one has not ended"
        try:
            url = self._url.read()
            self._attempt = in_daemon_thread(f"notices {self.name}", lambda: self._send(url, message))
            await asyncio.wait_for(asyncio.shield(self._attempt), LIMIT_S)
        except (Misconfigured, ConnectionError) as e:
            return str(e)
        except TimeoutError:
            return f"no response within {LIMIT_S:g} s"
        except Exception as e:  # noqa: BLE001 - a defect of a service's client must not end the task
            return f"{summary(e)}: a defect of the client of this service"
        return ""

    async def _send_round(self) -> None:
        """Send the queued notices, each until it is sent or too old."""
        taken = [notice for _, notice in self._queue]
        queued, pause_s = messages(taken, self._dashboard_url), FIRST_PAUSE_S
        step = len(taken) if len(queued) == 1 else 1
        for message in queued:
            while reason := await self.try_once(message):
                self._note_failure(reason)
                await asyncio.sleep(pause_s)
                pause_s = min(MAX_PAUSE_S, 2 * pause_s)
                if self._drop_old():
                    return
            self._note_success(step)
            for _ in range(step):
                self._queue.popleft()

    def _drop_old(self) -> int:
        """Drop the notices that wait for too long, and return their number."""
        oldest_s, dropped = stopwatch_s() - MAX_AGE_S, 0
        while self._queue and self._queue[0][0] < oldest_s:
            self._queue.popleft()
            dropped += 1
        if dropped:
            self._drop(dropped, f"not sent within {MAX_AGE_S / 3600:g} h", is_first=True)
        return dropped

    def _drop(self, count: int, reason: str, *, is_first: bool) -> None:
        self.counts["dropped"] += count
        if is_first:
            log.warning("notice dropped", destination=self.name, reason=reason, dropped=self.counts["dropped"])

    def _note_failure(self, reason: str) -> None:
        self.counts["failed"] += 1
        if not self._problem:
            remedy = "retries continue; forescale notify tries the destination"
            log.error("notice failed", destination=self.name, error=reason, remedy=remedy)
        self._problem = reason
        self._report(f"cannot send: {reason}")

    def _note_success(self, count: int) -> None:
        self.counts["sent"] += count
        if self._problem:
            log.info("notice sent", destination=self.name, remedy="the destination accepts notices again")
            self._problem = ""
            self._report("")


async def try_all(destinations: Sequence[Destination], message: Message) -> list[str]:
    """Send one message to all destinations. Return the reason of each failure, empty for none."""
    return list(await asyncio.gather(*(d.try_once(message) for d in destinations)))
