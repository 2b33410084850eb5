"""Certificates for the names that the stand-in for the Internet answers for, made anew for each of its runs."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab import state

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
DAYS = 2


def make(folder: Path, names: Sequence[str]) -> tuple[Path, Path, Path]:
    """Write into `folder` and return: what a client trusts, the server's certificate for these names, its key.

    A client trusts this machine's own bundle, the CA made here and, where the lab is up, that of its registry.
    """
    ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = _name("Slipway's stand-in for the Internet")
    authority = x509.BasicConstraints(ca=True, path_length=0)
    ca = _sign(ca_name, ca_key.public_key(), [(authority, True), (_usage(ca=True), True)], ca_name, ca_key)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(ca=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False),
        # Python 3.13 refuses a certificate without it.
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False),
    ]
    server = _sign(_name("stand-in"), server_key.public_key(), extensions, ca_name, ca_key)

    known = (Path(os.environ.get("SSL_CERT_FILE") or SYSTEM_BUNDLE), state.directory() / "ca.crt")
    texts = [file.read_bytes() for file in known if file.is_file()]
    bundle, certificate, key = (folder / name for name in ("ca.pem", "server.crt", "server.key"))
    bundle.write_bytes(b"\n".join([*texts, ca]))
    certificate.write_bytes(server)
    private = serialization.PrivateFormat.PKCS8
    key.touch(mode=0o600)
    key.write_bytes(
        server_key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    )
    return bundle, certificate, key


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, ca: bool) -> x509.KeyUsage:
    other = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
    )
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, encipher_only=False, decipher_only=False, **other
    )


def _sign(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
) -> bytes:
    now = dt.datetime.now(dt.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # A little earlier, for a clock that runs behind.
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
