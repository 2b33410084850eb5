"""The registry's certificate."""

import tempfile
from pathlib import Path

from lab import run, state

DAYS = "3650"
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
# All of these, because Python 3.13 refuses a certificate without one that RFC 5280 asks for.
CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n"
SERVER = (
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
    "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nsubjectAltName="
)


def certificate(names: list[str], addresses: list[str]) -> tuple[str, str, str]:
    """Return (CA certificate, server certificate, server key), PEM, made once and kept in the state directory.

    The CA's own key is thrown away after this one signature, so nothing else can ever be signed with it.
    """
    files = [state.path("tls", name) for name in ("ca.crt", "server.crt", "server.key")]
    if not all(file.is_file() for file in files):
        alternatives = ",".join(
            [f"DNS:{name}" for name in names] + [f"IP:{address}" for address in addresses]
        )
        with tempfile.TemporaryDirectory() as folder:
            ca = Path(folder) / "ca"
            server = Path(folder) / "server"
            _sign(ca, "/CN=Slipway lab CA", CA, ["-signkey", f"{ca}.key"])
            signer = ["-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-CAcreateserial"]
            _sign(server, f"/CN={names[0]}", SERVER + alternatives + "\n", signer)
            for file in files:
                state.write(file, (Path(folder) / file.name).read_text(encoding="ascii"))
    first, second, third = (file.read_text(encoding="ascii") for file in files)
    return first, second, third


def _sign(name: Path, subject: str, extensions: str, signer: list[str]) -> None:
    """Make <name>.key and the certificate <name>.crt for it."""
    Path(f"{name}.ext").write_text(extensions, encoding="ascii")
    run.output(
        [
            "openssl",
            "req",
            "-new",
            *NEW_KEY,
            "-keyout",
            f"{name}.key",
            "-subj",
            subject,
            "-out",
            f"{name}.csr",
        ]
    )
    options = ["-days", DAYS, "-extfile", f"{name}.ext", "-out", f"{name}.crt"]
    run.output(["openssl", "x509", "-req", "-in", f"{name}.csr", *signer, *options])
