from __future__ import annotations

import subprocess

from lab import keys, state, tls


def test_the_client_key_is_made_once_and_private() -> None:
    key = keys.client_key()
    content = key.read_bytes()

    assert key.stat().st_mode & 0o777 == 0o600
    assert keys.client_key().read_bytes() == content


def test_each_vps_gets_host_keys_of_its_own() -> None:
    one, two = keys.host_keys("one"), keys.host_keys("two")

    assert set(one) == {
        f"ssh_host_{kind}_key{end}" for kind in ("ed25519", "ecdsa", "rsa") for end in ("", ".pub")
    }
    assert one["ssh_host_ed25519_key.pub"] != two["ssh_host_ed25519_key.pub"]
    assert one["ssh_host_ed25519_key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")


def test_the_pinned_keys_are_found_by_ssh() -> None:
    public = keys.host_keys("web")["ssh_host_ed25519_key.pub"]

    file = keys.pin({("127.0.0.1", 22001): [public], ("127.0.0.1", 22002): ["ssh-rsa BBBB x"]})

    command = ["ssh-keygen", "-F", "[127.0.0.1]:22001", "-f", str(file)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert public.split()[1] in found
    assert "BBBB" not in found


def test_the_vault_password_stays() -> None:
    file = keys.vault_password()
    content = file.read_text(encoding="ascii")

    assert file.stat().st_mode & 0o777 == 0o600
    assert len(content.strip()) >= 32
    assert keys.vault_password().read_text(encoding="ascii") == content


def openssl(*arguments: str, stdin: str) -> str:
    result = subprocess.run(
        ["openssl", *arguments], input=stdin, capture_output=True, text=True, check=True, timeout=30
    )
    return result.stdout


def test_the_certificate_is_signed_by_the_ca_for_the_names() -> None:
    ca, server, key = tls.certificate(["ghcr.io", "localhost"], ["127.0.0.1"])

    (pem := state.path("check", "ca.pem")).write_text(ca, encoding="ascii")
    assert "OK" in openssl(
        "verify", "-x509_strict", "-CAfile", str(pem), "-verify_hostname", "ghcr.io", stdin=server
    )
    assert "OK" in openssl(
        "verify", "-x509_strict", "-CAfile", str(pem), "-verify_ip", "127.0.0.1", stdin=server
    )
    public = openssl("x509", "-noout", "-pubkey", stdin=server)
    assert openssl("pkey", "-pubout", stdin=key) == public


def test_the_certificate_is_made_once_and_the_cas_key_is_not_kept() -> None:
    first = tls.certificate(["ghcr.io"], ["127.0.0.1"])

    assert tls.certificate(["ghcr.io"], ["127.0.0.1"]) == first
    kept = {file.name: file.stat().st_mode & 0o777 for file in state.path("tls", "x").parent.iterdir()}
    assert kept == {"ca.crt": 0o600, "server.crt": 0o600, "server.key": 0o600}
