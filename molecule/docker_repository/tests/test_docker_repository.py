"""Docker came out of the repository, and only what its key has signed is trusted."""

from testinfra.host import Host  # type: ignore[import-untyped] # it ships no types

from lab import Vps


def test_engine_comes_from_the_repository(host: Host) -> None:
    assert "127.0.0.1:8099" in host.check_output("apt-cache policy docker-ce")
    assert host.package("docker-ce").is_installed
    assert not host.package("docker.io").is_installed


def test_apt_pins_the_key(host: Host) -> None:
    fingerprint = host.file("/srv/repository/fingerprint").content_string
    assert fingerprint in host.file("/etc/apt/sources.list.d/docker.sources").content_string


def test_apt_works_without_complaint(host: Host) -> None:
    # Two entries for one repository, or a key that does not fit, would be an error here.
    host.check_output("apt-get update --error-on=any")


def test_deploy_runs_containers_and_compose(machine: Vps) -> None:
    done = machine.ssh("docker run --rm redis:7-alpine echo hello", user="deploy", timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "hello"), done.stderr
    assert machine.ssh("docker compose version && docker buildx version", user="deploy").returncode == 0


def test_an_upgrade_leaves_containers_running(host: Host) -> None:
    # upgrade.yml wrote this down before the newer version came.
    before = host.file("/srv/survivor").content_string
    assert "true" in before
    assert (
        host.check_output(
            "docker inspect --format '{{.State.Running}} {{.State.Pid}} {{.State.StartedAt}}' survivor"
        )
        == before
    )
    assert host.package("docker-ce").version.endswith("+newer")
    assert host.package("containerd.io").version.endswith("+newer")
    assert host.run("docker exec survivor true").succeeded
