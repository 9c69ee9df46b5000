"""HTTP session for google-auth, with limits on a response's time and size.

google-auth blocks and runs in a thread.
"""

from __future__ import annotations

import io
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from scaler.clock import stopwatch_s

AUTH_S: Final = 10.0
"""Time limit of a google-auth request: by default a hanging metadata server holds the thread for 2 minutes. Seconds."""
MAX_BODY: Final = 2**18
"""Bytes of a response: a token has some kilobytes."""
CHUNK: Final = 2**14
"""Bytes read at once, decompressed before they are counted."""


class _LimitedSession(HTTPAdapter):
    """Reads the whole response within `AUTH_S` and `MAX_BODY`.

    Raises `requests.RequestException` beyond.
    """

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(request, *args, **{**kwargs, "stream": True})
        try:
            response.raw = io.BytesIO(_read(response.raw))
        except (HTTPError, OSError) as e:
            response.close()
            raise requests.ConnectionError(e, request=request) from e
        return response


def _read(raw: Any) -> bytes:
    """Return a body, decompressed. Raises `HTTPError` beyond the limits."""
    started_s, content = stopwatch_s(), bytearray()
    for chunk in raw.stream(CHUNK, decode_content=True):
        content += chunk
        if len(content) > MAX_BODY:
            raise HTTPError(f"the response exceeds {MAX_BODY / 2**10:g} KiB")
        if stopwatch_s() - started_s > AUTH_S:
            raise HTTPError(f"no complete response within {AUTH_S:g} s")
    return bytes(content)


def session() -> requests.Session:
    """Return a session with bounded responses."""
    limited = requests.Session()
    for scheme in ("http://", "https://"):
        limited.mount(scheme, _LimitedSession())
    return limited
