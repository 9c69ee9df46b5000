"""google-auth's HTTP, which blocks and runs in a thread, with limits on the time and the bytes of an answer."""

from __future__ import annotations

import io
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from scaler.clock import stopwatch_s

AUTH_S: Final = 10.0
"""For one request of google-auth: a hanging metadata server must not hold a thread for its default of 2 minutes."""
MAX_BODY: Final = 2**18
"""Bytes of an answer: a token has some kilobytes."""
CHUNK: Final = 2**14
"""Bytes read at once, and unpacked before they are counted."""


class _LimitedSession(HTTPAdapter):
    """Reads the whole answer within `AUTH_S` and `MAX_BODY`. Raises `requests.RequestException` beyond."""

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        response = super().send(request, *args, **{**more, "stream": True})
        try:
            response.raw = io.BytesIO(_read(response.raw))
        except (HTTPError, OSError) as e:
            response.close()
            raise requests.ConnectionError(e, request=request) from e
        return response


def _read(raw: Any) -> bytes:
    """Return a body, unpacked. Raises `HTTPError` beyond the limits."""
    began, content = stopwatch_s(), bytearray()
    for chunk in raw.stream(CHUNK, decode_content=True):
        content += chunk
        if len(content) > MAX_BODY:
            raise HTTPError(f"an answer of more than {MAX_BODY / 2**10:g} KiB")
        if stopwatch_s() - began > AUTH_S:
            raise HTTPError(f"no whole answer within {AUTH_S:g} s")
    return bytes(content)


def session() -> requests.Session:
    """Return a session whose answers are bounded."""
    made = requests.Session()
    for scheme in ("http://", "https://"):
        made.mount(scheme, _LimitedSession())
    return made
