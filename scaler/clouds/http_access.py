"""Credentials and trust of an HTTP server, as configured; secrets are read at each use."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from yarl import URL

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.config.secret import Secret
from scaler.masking import is_harmless_header, is_secret_name, remember

BASE_URL: Final = Pattern(
    r"^https?://[^/@\s?#]+(/[^\s?#]*)?$", "an http:// or https:// URL without user, password and query"
)


@dataclass(frozen=True, kw_only=True)
class Access:
    """Credentials for HTTP requests. Certificates are always verified."""

    bearer_token: Annotated[
        Secret | None, FieldMetadata("Reference to a token that is sent as a bearer token. Default: null, none.")
    ] = None
    username: Annotated[
        str | None, FieldMetadata("User name for basic authentication; requires password. Default: null, none.")
    ] = None
    password: Annotated[
        Secret | None,
        FieldMetadata("Reference to the password for basic authentication; requires username. Default: null, none."),
    ] = None
    headers: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "Headers to send with every request. Put secrets into secret_headers. Only the values of harmless headers"
            " (Accept, User-Agent, X-Scope-OrgID ...) are recorded. Default: none.",
            example={"X-Scope-OrgID": "llm"},
        ),
    ] = field(default_factory=dict)
    secret_headers: Annotated[
        Mapping[str, Secret],
        FieldMetadata(
            "Headers whose value is a secret, such as an API key, each read from an environment variable or a file."
            " Default: none.",
            example={"X-Api-Key": {"env": "PROMETHEUS_API_KEY"}},
        ),
    ] = field(default_factory=dict)
    ca_file: Annotated[
        str | None, FieldMetadata("PEM file of trusted certificate authorities. Default: null, those of the system.")
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.username is None) != (self.password is None):
            yield "username", "and password must be set together"
        if self.bearer_token and self.username:
            yield "bearer_token", "and username exclude each other; remove one of the two"
        for name, value in self.headers.items():
            if not _is_header(name) or not value.isprintable():
                yield "headers", "must be valid HTTP headers, each on one line"
            elif is_secret_name(name):
                remedy = "use bearer_token or password" if name.lower() == "authorization" else "use secret_headers"
                yield "headers", f"must not contain secrets, and {name} does: {remedy}"
        names = [name.lower() for name in (*self.headers, *self.secret_headers)]
        if len(set(names)) < len(names):
            yield "secret_headers", "names a header twice, here or under headers; remove one"
        if "authorization" in names and (self.bearer_token or self.username):
            yield "secret_headers", "must not contain Authorization, which bearer_token and username already send"
        if not all(map(_is_header, self.secret_headers)):
            yield "secret_headers", "must have valid header names, such as X-Api-Key"

    def request_headers(self) -> dict[str, str]:
        """Return the headers of one request, with secrets read now. Raises `Misconfigured`."""
        remember(*(value for name, value in self.headers.items() if not is_harmless_header(name)))
        headers = {**self.headers, **{name: secret.read() for name, secret in self.secret_headers.items()}}
        if self.bearer_token is not None:
            headers["Authorization"] = f"Bearer {self.bearer_token.read()}"
        elif self.username is not None and self.password is not None:
            credentials = f"{self.username}:{self.password.read()}".encode()
            encoded = base64.b64encode(credentials).decode()
            remember(encoded, encoded.rstrip("="))
            headers["Authorization"] = f"Basic {encoded}"
        return headers


def _is_header(name: str) -> bool:
    return name.isascii() and name.replace("-", "").isalnum()


def is_page(address: str) -> bool:
    """Return whether `address` is an HTTP URL with host and port, without user and password."""
    try:
        url = URL(address)
        return url.scheme in {"http", "https"} and bool(url.host) and url.user is None and bool(url.port)
    except ValueError:
        return False
