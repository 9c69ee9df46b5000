"""Keep secrets out of everything that a person, a log or a file receives.

`mask` is the one function for text: messages of SDKs, servers and exceptions pass it where they enter (`PortError`,
readings) and once more where they leave (log, health). It knows secrets by their form, and the values that this
process has read as secrets by themselves.
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
MAX_KNOWN: Final = 1024
"""Secret values remembered; a rotated secret adds one, and the oldest is dropped beyond this."""
SHORTEST: Final = 4
"""Characters of the shortest value remembered: a shorter one would mask ordinary words."""
WHOLE_WORD: Final = 12
"""Characters below which a remembered value is masked only where it stands alone, not inside a longer word."""

SECRET_NAME: Final = re.compile(
    r"pass(?:wor[dt]|wd|phrase|code)?$|passw|pwd|secret|token(?!s|iz)|(?:api|access|account|auth|private|shared|sign\w*"
    r"|encryption|license|master|subscription)key|authorization|authkey|credential|connectionstring|connstr|cookie"
    r"|bearer|^key$|^sas|sas$|^sig$|signature|^auth$|jwt"
)
"""Names of settings, headers and query parameters that hold a secret, in small letters without separators."""
COMMON_WORDS: Final = frozenset({"auth", "key"})
"""Names that hold a secret in a URL or a mapping, and mean anything in a sentence."""
REFERENCE_NAME: Final = re.compile(r"(?:file|path|env|ref|fromenv|name|url|uri|type|kind|mode|modes)$")
"""Names that say where a secret is kept."""
HARMLESS_HEADERS: Final = frozenset(
    {
        "accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "connection", "content-type",
        "date", "dnt", "from", "host", "pragma", "referer", "te", "traceparent", "tracestate", "user-agent", "via",
        "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-grafana-org-id", "x-request-id",
        "x-scope-orgid", "thanos-tenant",
    }
)  # fmt: skip
"""Headers whose values are no secrets, in small letters. Every other header's value is one."""

_SIGNS = re.compile(
    r"(?i:pass|pwd|secret|token|key|auth|cred|connstr|connection.?str|cookie|bearer|sas|sig|jwt|basic|digest|negotiate)|AKIA|ASIA|gh[pousr]_"
    r"|_pat_|glpat|xox|sk-|hf_|ya29|AIza|hv[sb]\.|glsa_|eyJ"
)
"""Something that each of the forms below has: most texts have none of it, and cost one search."""
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
"""Words that follow the name of a scheme in a sentence."""
_HEADER = re.compile(
    r"(?i)(?<![\w.-])((?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]{0,60}(?:key|token|secret|auth))(\s{0,8}:\s{0,8})"
    r"[^\n\"']+"
)
_PARAMETER = re.compile(r"([?&;])([\w.%-]{1,100})=([^\s&;\"'<>#]+)")
_NAMED = re.compile(r"(?<![\w.-])(\\?[\"']?)([A-Za-z][\w.-]{0,100})\1(\s{0,8}(?:=>|=|:(?=[\s\"'\\]))\s{0,8})")
_VALUE = re.compile(r"(\\?[\"'])(.*?)\1|[^\s,;&(){}\[\]]+")

_known: dict[str, None] = {}
_known_form: list[re.Pattern[str]] = []


def remember(*values: str) -> None:
    """Have `mask` hide these values wherever they stand, also as URLs and basic authentication carry them."""
    new = {v for v in values if len(v) >= SHORTEST and v not in _known}
    if not new:
        return
    for value in new:
        _known[value] = None
    while len(_known) > MAX_KNOWN:
        del _known[next(iter(_known))]
    forms = {form for value in _known for form in _forms(value)}
    _known_form[:] = [re.compile("|".join(_alone(form) for form in sorted(forms, key=len, reverse=True)))]


@contextlib.contextmanager
def own_memory() -> Iterator[None]:
    """Forget at the end what is remembered within: for several daemons in turn in one process, as tests have them."""
    known, form = dict(_known), list(_known_form)
    try:
        yield
    finally:
        _known.clear()
        _known.update(known)
        _known_form[:] = form


def _forms(value: str) -> set[str]:
    raw = value.encode(errors="replace")
    return {value, quote(value, safe=""), b64encode(raw).decode().rstrip("=")} if len(value) >= 6 else {value}


def _alone(form: str) -> str:
    word = re.escape(form)
    return word if len(form) >= WHOLE_WORD else rf"(?<!\w){word}(?!\w)"


def mask(text: str) -> str:
    """Return `text` with every secret in it replaced by ``***``; masking twice changes nothing more."""
    for known in _known_form:
        text = known.sub(HIDDEN, text)
    if "://" in text and "@" in text:
        text = _USER_INFO.sub(rf"\1{HIDDEN}@", text)
    if not _SIGNS.search(text):
        return text
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    text = _ISSUED.sub(HIDDEN, text)
    text = _SCHEME.sub(_credentials, text)
    text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    text = _PARAMETER.sub(lambda m: f"{m[1]}{m[2]}={HIDDEN}" if is_secret_name(m[2]) else m[0], text)
    return _without_assigned(text)


def _credentials(found: re.Match[str]) -> str:
    """``Bearer x`` and ``Basic x`` hidden, and not "bearer token" or "basic needs"."""
    scheme, space, word = found.groups()
    is_prose = word.lower() in _PROSE or (scheme.lower() != "bearer" and word.isalpha() and word.islower())
    return found[0] if is_prose else f"{scheme}{space}{HIDDEN}"


def _without_assigned(text: str) -> str:
    """``name=value``, ``name: value`` and ``"name": "value"`` with the value hidden where the name is a secret's."""
    parts, end = list[str](), 0
    for named in _NAMED.finditer(text):
        value = _VALUE.match(text, named.end())
        if named.start() < end or value is None or not _is_assignment(named, value):
            continue
        mark = value[1] or ""
        parts += [text[end : named.end()], mark, HIDDEN, mark]
        end = value.end()
    return "".join([*parts, text[end:]])


def _is_assignment(named: re.Match[str], value: re.Match[str]) -> bool:
    """Return whether a secret follows its name, and not a sentence, as in ``bearer_token: must be a mapping``."""
    mark, name, sign = named.groups()
    if not is_secret_name(name.rpartition(".")[2]) or (name.lower() in COMMON_WORDS and not mark):
        return False
    is_sentence = ":" in sign and not mark and not value[1] and value.string[value.end() : value.end() + 1] == " "
    return not is_sentence


def is_secret_name(name: str) -> bool:
    """Return whether a setting, header or parameter of this name holds a secret itself, and not the place of one."""
    word = re.sub(r"[^a-z0-9]", "", name.lower())
    return bool(SECRET_NAME.search(word)) and not REFERENCE_NAME.search(word)


def is_harmless_header(name: str) -> bool:
    return name.lower() in HARMLESS_HEADERS


def masked(value: Any) -> Any:
    """Return a plain value (mappings, lists, text) with each text masked, and each unknown header's value hidden."""
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, dict | Mapping):  # dict first: asking an abstract class takes ten times as long
        return {
            key: _headers(v) if key == "headers" and isinstance(v, Mapping) else masked(v) for key, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(v) for v in value]
    return value


def _headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: mask(str(v)) if is_harmless_header(name) else HIDDEN for name, v in headers.items()}


def masked_reading(reading: Fresh[T] | Absent) -> Fresh[T] | Absent:
    """Return a reading whose reasons, which may quote a server, hold no secret."""
    if isinstance(reading, Absent):
        return Absent(mask(reading.reason))
    return dataclasses.replace(reading, missing=mask(reading.missing)) if reading.missing else reading


def masked_status(status: Fresh[PoolStatus]) -> Fresh[PoolStatus]:
    """Return a pool's status likewise: a shortage is told in the cloud's words."""
    short = status.value.shortfall
    if short is None or mask(short.reason) == short.reason:
        return status
    short = dataclasses.replace(short, reason=mask(short.reason))
    return dataclasses.replace(status, value=dataclasses.replace(status.value, shortfall=short))
