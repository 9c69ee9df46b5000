"""Sends a message through the library Apprise.

It knows the services: Slack, Teams, PagerDuty, e-mail, webhooks and others.
This module is imported only where a destination is configured.
"""

from __future__ import annotations

import logging
import re
from typing import Final
from urllib.parse import unquote, urlsplit

import apprise

from scaler.masking import remember
from scaler.ports import Misconfigured
from scaler.telemetry.library_logs import reasons_of
from scaler.telemetry.notices.message import Message

LIBRARY: Final = logging.getLogger("apprise")
MIN_TOKEN_CHARS: Final = 8
"""A shorter part of a URL is a word and not a token."""
KINDS: Final = {
    "info": apprise.NotifyType.INFO,
    "success": apprise.NotifyType.SUCCESS,
    "warning": apprise.NotifyType.WARNING,
    "failure": apprise.NotifyType.FAILURE,
}


def send(url: str, message: Message) -> None:
    """Send a message and wait for the service's response, for some seconds.

    Raises `Misconfigured` for a URL that names no service, and `ConnectionError` where the service did not accept the
    message.
    """
    service = _service(url)
    with reasons_of(LIBRARY) as reasons:
        is_sent = service.notify(
            body=message.body,
            title=message.title,
            notify_type=KINDS[message.kind],
            body_format=apprise.NotifyFormat.TEXT,
        )
    if not is_sent:
        raise ConnectionError(reasons.text() or "the service did not accept the message")


def check(url: str) -> None:
    """Raise `Misconfigured` for a URL that names no service."""
    _service(url)


def _service(url: str) -> apprise.NotifyBase:
    """Return the client of a URL's service."""
    remember(*_tokens(url))
    with reasons_of(LIBRARY) as reasons:
        asset = apprise.AppriseAsset(app_id="Forescale", app_desc="Forescale", app_url="")
        service = apprise.Apprise.instantiate(url, asset=asset)
    if not isinstance(service, apprise.NotifyBase):
        why = f" ({reasons.text()})" if reasons.text() else ""
        raise Misconfigured(f"is no URL of a service that Apprise knows{why}; see https://appriseit.com/services/")
    return service


def _tokens(url: str) -> list[str]:
    """Return the parts of a URL that may be secrets: the password, and long parts with a digit."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:  # Apprise does not know such a URL either
        return []
    user_info, _, host = parts.netloc.rpartition("@")
    user, _, password = user_info.partition(":")
    words = re.split(r"[/?&=:]", f"{user}/{host}/{parts.path}?{parts.query}#{parts.fragment}")
    tokens = [w for w in words if len(w) >= MIN_TOKEN_CHARS and re.search("[0-9]", w) and "." not in w]
    return [text for token in (password, *tokens) for text in {token, unquote(token)} if text]
