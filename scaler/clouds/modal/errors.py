"""Errors of Modal's SDK by remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from google.protobuf.message import DecodeError
from grpclib.exceptions import ProtocolError, StreamTerminatedError
from modal import exception

from scaler.clouds.response_validation import one_line
from scaler.ports import Conflict, Misconfigured, OutOfQuota, PortError, Throttled, Unavailable

MISCONFIGURED: Final = (
    exception.AuthError,
    exception.InvalidError,
    exception.NotFoundError,
    exception.PermissionDeniedError,
    exception.UnimplementedError,
    exception.VersionError,
)
"""Errors that no retry fixes. `ConflictError` is an `InvalidError` too, and is checked first."""
BROKEN: Final = (exception.Error, StreamTerminatedError, ProtocolError, DecodeError, OSError)
"""Every other error of the SDK, and those of broken connections and malformed responses."""


@contextmanager
def port_errors(operation: str, *, write: bool) -> Iterator[None]:
    """Translate the SDK's errors into port errors that name the operation."""
    try:
        yield
    except BROKEN as e:
        raise port_error(f"Modal {operation}: {one_line(f'{type(e).__name__}: {e}')}", e, write=write) from e


def port_error(text: str, error: Exception, *, write: bool) -> PortError:
    """Return the port error for an error of the SDK.

    A limit of Modal's API has a time to wait, which the SDK waits for itself unless `MODAL_MAX_THROTTLE_WAIT` forbids
    it. Without a time, a refused write exceeds the limit of the plan: containers or GPUs.
    """
    if isinstance(error, exception.ConflictError):
        return Conflict(text)
    if isinstance(error, MISCONFIGURED):
        return Misconfigured(text)
    if isinstance(error, exception.ResourceExhaustedError):
        details = getattr(error, "_grpc_details", None) or ()  # the public property warns that it will go
        waits = [float(detail.retry_after_secs) for detail in details if hasattr(detail, "retry_after_secs")]
        return OutOfQuota(text) if write and not waits else Throttled(text, waits[0] if waits else None)
    return Unavailable(text)
