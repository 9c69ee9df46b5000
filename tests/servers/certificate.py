"""Certificates that only clients with their CA file trust."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scaler.config.listen import ServerTls


def self_signed(directory: Path) -> tuple[ssl.SSLContext, str]:
    """Create a certificate for 127.0.0.1; return the server's context, and the path of the CA file for clients."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "forescale tests")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    trusted, secret = directory / "ca.pem", directory / "key.pem"
    trusted.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, secret)
    return context, str(trusted)


def make_pair(folder: Path, name: str) -> ServerTls:
    """Create a certificate for `name` and its key."""
    pair = ServerTls(certificate=str(folder / "tls.crt"), key=str(folder / "tls.key"))
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-out", pair.certificate, "-keyout", pair.key], check=True, capture_output=True)
    return pair


def server_context(pair: ServerTls) -> ssl.SSLContext:
    """Return the context of a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


def signed_pair(folder: Path, name: str) -> tuple[Path, ServerTls]:
    """Create an authority and a client's certificate for `name` that it signs; return the authority's file and both."""
    authority, authority_key, request = folder / f"{name}-ca.crt", folder / f"{name}-ca.key", folder / f"{name}.csr"
    pair = ServerTls(certificate=str(folder / f"{name}.crt"), key=str(folder / f"{name}.key"))
    new = ("openssl", "req", "-newkey", "rsa:2048", "-nodes")
    signing = ("-CA", authority, "-CAkey", authority_key, "-CAcreateserial", "-days", "2")
    for command in (
        (*new, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", authority_key, "-out", authority),
        (*new, "-subj", f"/CN={name}", "-keyout", pair.key, "-out", request),
        ("openssl", "x509", "-req", "-in", request, *signing, "-out", pair.certificate),
    ):
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return authority, pair
