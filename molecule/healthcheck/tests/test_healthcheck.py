"""What the application saw of the health check, and that nothing was left on the server."""

from testinfra.host import Host  # type: ignore[import-untyped] # it ships no types


def test_everything_was_asked_from_outside_under_the_public_name(host: Host) -> None:
    log = host.check_output("journalctl --unit app --output cat --grep '^GET '").splitlines()

    assert {line.split()[1] for line in log} == {"/", "/ready", "/version"}
    assert {line.split()[2] for line in log} == {"pm.example.com"}


def test_the_application_got_its_attempts(host: Host) -> None:
    # Two answers were not healthy; the check that met them asked until the third.
    log = host.check_output("journalctl --unit app --output cat --grep '^GET '").splitlines()

    assert [line.split()[1] for line in log[:4]] == ["/version", "/version", "/version", "/ready"]
