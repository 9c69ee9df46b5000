"""Masks secrets in texts for people, logs and files.

Messages of SDKs, servers and exceptions pass `mask` where they enter (`PortError`, readings) and where they leave (log,
health). It recognises secrets by their form, and the values that this process has read as secrets.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

from policies.model import Absent, Fresh, PoolStatus

T = TypeVar("T")
HIDDEN: Final = "***"
MAX_SECRETS: Final = 1024
"""Maximum number of secret values remembered. A rotated secret adds one; the oldest is dropped."""
MIN_LENGTH: Final = 4
"""Minimum length of a remembered value, in characters: a shorter one would mask ordinary words."""
WHOLE_WORD_LENGTH: Final = 12
"""A remembered value shorter than this is masked as a whole word only, not inside a longer word."""

SECRET_NAME: Final = re.compile(
    r"pass(?:wor[dt]|wd|phrase|code)?$|passw|pwd|secret|token(?!s|iz)|(?:api|access|account|auth|private|shared|sign\w*"
    r"|encryption|license|master|subscription)key|authorization|authkey|credential|connectionstring|connstr|cookie"
    r"|bearer|^key$|^sas|sas$|^sig$|signature|^auth$|jwt"
)
"""Names of settings, headers and query parameters that hold a secret, in lower case without separators."""
COMMON_WORDS: Final = frozenset({"auth", "key"})
"""Names that hold a secret in a URL or a mapping, but are ordinary words in a sentence."""
REFERENCE_NAME: Final = re.compile(r"(?:file|path|env|ref|fromenv|name|url|uri|type|kind|mode|modes)$")
"""Names of settings that refer to the place of a secret."""
HARMLESS_HEADERS: Final = frozenset(
    {
        "accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "connection", "content-type",
        "date", "dnt", "from", "host", "pragma", "referer", "te", "traceparent", "tracestate", "user-agent", "via",
        "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-grafana-org-id", "x-request-id",
        "x-scope-orgid", "thanos-tenant",
    }
)  # fmt: skip
"""Headers whose values are not secrets, in lower case. Every other header's value is masked."""

_SECRET_HINT = re.compile(
    r"(?i:pass|pwd|secret|token|key|auth|cred|connstr|connection.?str|cookie|bearer|sas|sig|jwt|basic|digest|negotiate)|AKIA|ASIA|gh[pousr]_"
    r"|_pat_|glpat|xox|sk-|hf_|ya29|AIza|hv[sb]\.|glsa_|eyJ"
)
"""A part of each form below. Most texts contain none, and cost this one search."""
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
)
_USER_INFO = re.compile(
    r"\b([A-Za-z][\w+.-]{0,20}://)(?:[^\s/?#\"'<>]{0,500}|[^\s/@:\"'<>]{1,200}:(?![0-9]{1,5}[/?#])[^\s\"'<>@]{0,500})@"
)
_ISSUED = re.compile(
    r"(?<![\w-])(?:(?:AKIA|ASIA)[A-Z0-9]{12,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{8,}"
    r"|sk-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|ya29\.[\w.-]+|AIza[\w-]{30,}|hv[sb]\.[\w-]{16,}|glsa_\w{16,}"
    r"|eyJ[\w-]{6,2000}\.[\w-]+(?:\.[\w-]*)?)"
)
"""Keys and tokens whose issuers give them a prefix."""
_SCHEME = re.compile(
    r"(?i)\b(bearer|basic|digest|negotiate|sharedaccesssignature|apikey)(\s{1,8})([A-Za-z0-9._~+/=-]{4,})"
)
_PROSE = frozenset(
    {"access", "and", "auth", "authentication", "authorization", "credentials", "header", "methods", "realm", "scheme",
     "token", "token.", "tokens", "token-type"}
)  # fmt: skip
"""Words that follow the name of an authentication scheme in a sentence."""
_HEADER = re.compile(
    r"(?i)(?<![\w.-])((?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]{0,60}(?:key|token|secret|auth))(\s{0,8}:\s{0,8})"
    r"[^\n\"']+"
)
_PARAMETER = re.compile(r"([?&;])([\w.%-]{1,100})=([^\s&;\"'<>#]+)")
_NAMED = re.compile(r"(?<![\w.-])(\\?[\"']?)([A-Za-z][\w.-]{0,100})\1(\s{0,8}(?:=>|=|:(?=[\s\"'\\]))\s{0,8})")
_VALUE = re.compile(r"(\\?[\"'])(.*?)\1|[^\s,;&(){}\[\]]+")

_secrets: dict[str, None] = {}
_secrets_pattern: list[re.Pattern[str]] = []


def remember(*values: str) -> None:
    """Have `mask` hide these values.

    It also hides them in URL encoding, and in Base64 as of basic authentication.
    """
    new = {v for v in values if len(v) >= MIN_LENGTH and v not in _secrets}
    if not new:
        return
    for value in new:
        _secrets[value] = None
    while len(_secrets) > MAX_SECRETS:
        del _secrets[next(iter(_secrets))]
    encodings = {encoding for value in _secrets for encoding in _encodings(value)}
    _secrets_pattern[:] = [re.compile("|".join(_pattern(e) for e in sorted(encodings, key=len, reverse=True)))]


@contextlib.contextmanager
def isolated_secrets() -> Iterator[None]:
    """Restore the remembered values at the end.

    This is for tests that run several daemons in one process.
    """
    secrets, pattern = dict(_secrets), list(_secrets_pattern)
    try:
        yield
    finally:
        _secrets.clear()
        _secrets.update(secrets)
        _secrets_pattern[:] = pattern


def _encodings(value: str) -> set[str]:
    raw = value.encode(errors="replace")
    return {value, quote(value, safe=""), b64encode(raw).decode().rstrip("=")} if len(value) >= 6 else {value}


def _pattern(encoding: str) -> str:
    word = re.escape(encoding)
    return word if len(encoding) >= WHOLE_WORD_LENGTH else rf"(?<!\w){word}(?!\w)"


def mask(text: str) -> str:
    """Return `text` with every secret in it replaced by ``***``. The function is idempotent."""
    for pattern in _secrets_pattern:
        text = pattern.sub(HIDDEN, text)
    if "://" in text and "@" in text:
        text = _USER_INFO.sub(rf"\1{HIDDEN}@", text)
    if not _SECRET_HINT.search(text):
        return text
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    text = _ISSUED.sub(HIDDEN, text)
    text = _SCHEME.sub(_credentials, text)
    text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    text = _PARAMETER.sub(lambda m: f"{m[1]}{m[2]}={HIDDEN}" if is_secret_name(m[2]) else m[0], text)
    return _mask_assignments(text)


def _credentials(match: re.Match[str]) -> str:
    """Mask the credentials in ``Bearer x`` and ``Basic x``, but not prose.

    Examples of prose: "bearer token", "basic needs".
    """
    scheme, space, word = match.groups()
    is_prose = word.lower() in _PROSE or (scheme.lower() != "bearer" and word.isalpha() and word.islower())
    return match[0] if is_prose else f"{scheme}{space}{HIDDEN}"


def _mask_assignments(text: str) -> str:
    """Mask the value of an assignment where the name is a secret's.

    The forms are ``name=value``, ``name: value`` and ``"name": "value"``.
    """
    parts, end = list[str](), 0
    for name in _NAMED.finditer(text):
        value = _VALUE.match(text, name.end())
        if name.start() < end or value is None or not _is_assignment(name, value):
            continue
        quotation_mark = value[1] or ""
        parts += [text[end : name.end()], quotation_mark, HIDDEN, quotation_mark]
        end = value.end()
    return "".join([*parts, text[end:]])


def _is_assignment(name_match: re.Match[str], value: re.Match[str]) -> bool:
    """Return whether a secret follows its name, and not a sentence.

    A sentence follows in ``bearer_token: must be a mapping``.
    """
    quotation_mark, name, sign = name_match.groups()
    if not is_secret_name(name.rpartition(".")[2]) or (name.lower() in COMMON_WORDS and not quotation_mark):
        return False
    is_unquoted = not quotation_mark and not value[1]
    is_sentence = ":" in sign and is_unquoted and value.string[value.end() : value.end() + 1] == " "
    return not is_sentence


def is_secret_name(name: str) -> bool:
    """Return whether a setting, header or parameter of this name holds a secret.

    Returns False for the place of a secret.
    """
    word = re.sub(r"[^a-z0-9]", "", name.lower())
    return bool(SECRET_NAME.search(word)) and not REFERENCE_NAME.search(word)


def is_harmless_header(name: str) -> bool:
    return name.lower() in HARMLESS_HEADERS


def masked(value: Any) -> Any:
    """Return a plain value with its texts and the values of unknown headers masked.

    Plain values are mappings, lists and text.
    """
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, dict | Mapping):  # dict first: a check against an abstract class takes ten times as long
        return {
            key: _headers(v) if key == "headers" and isinstance(v, Mapping) else masked(v) for key, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(v) for v in value]
    return value


def _headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: mask(str(v)) if is_harmless_header(name) else HIDDEN for name, v in headers.items()}


def masked_reading(reading: Fresh[T] | Absent) -> Fresh[T] | Absent:
    """Return a reading with its reasons masked: they may quote a server."""
    if isinstance(reading, Absent):
        return Absent(mask(reading.reason))
    return dataclasses.replace(reading, missing=mask(reading.missing)) if reading.missing else reading


def masked_status(status: Fresh[PoolStatus]) -> Fresh[PoolStatus]:
    """Return a pool's status with the reason of its shortfall masked: it quotes the cloud."""
    shortfall = status.value.shortfall
    if shortfall is None or mask(shortfall.reason) == shortfall.reason:
        return status
    shortfall = dataclasses.replace(shortfall, reason=mask(shortfall.reason))
    return dataclasses.replace(status, value=dataclasses.replace(status.value, shortfall=shortfall))
