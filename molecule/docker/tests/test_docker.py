"""What the role promises, asked of the finished host, as the user who releases."""

import json
import re

import pytest
from testinfra.host import Host  # type: ignore[import-untyped] # it ships no types

from lab import Vps, images, registry

IMAGE = "redis:7-alpine"


@pytest.fixture(scope="module")
def pulled(machine: Vps) -> str:
    """An image of Docker Hub, pulled as deploy."""
    done = machine.ssh(f"docker pull --quiet {IMAGE}", user="deploy", timeout=120)
    assert done.returncode == 0, done.stderr
    return IMAGE


def test_pulls_go_through_the_mirror(machine: Vps) -> None:
    # Docker Hub has no image of this name.
    name = "slipway-only-in-the-mirror:1"
    registry.fill_mirror(registry.load(), name, images.ensure_real(IMAGE))
    done = machine.ssh(f"docker pull --quiet {name}", user="deploy", timeout=120)
    assert done.returncode == 0, done.stderr


def test_deploy_runs_containers_without_sudo(machine: Vps, pulled: str) -> None:
    done = machine.ssh(f"docker run --rm {pulled} echo hello", user="deploy")
    assert (done.returncode, done.stdout.strip()) == (0, "hello"), done.stderr


def test_another_user_is_kept_out(host: Host, pulled: str) -> None:
    refused = host.run(f"runuser -u nobody -- docker run --rm {pulled} true")
    assert refused.failed
    assert "permission denied" in refused.stderr


def test_containers_outlive_a_restart_of_the_engine(machine: Vps, host: Host, pulled: str) -> None:
    started = machine.ssh(f"docker run --detach --rm --name survivor {pulled} sleep 300", user="deploy")
    assert started.returncode == 0, started.stderr
    state = "docker inspect --format '{{.State.Running}} {{.State.Pid}} {{.State.StartedAt}}' survivor"
    try:
        before = host.check_output(state)
        host.check_output("systemctl restart docker")
        assert host.check_output(state) == before
        assert machine.ssh("docker exec survivor true", user="deploy").returncode == 0
    finally:
        host.run("docker rm --force survivor")


def test_log_limits_reach_the_containers(machine: Vps, pulled: str) -> None:
    form = "{{json .HostConfig.LogConfig}}"
    done = machine.ssh(f"docker inspect --format '{form}' $(docker create {pulled})", user="deploy")
    # The role's own limits, and what this scenario merges over them.
    limits = {"max-file": "2", "max-size": "10m", "compress": "true"}
    assert json.loads(done.stdout) == {"Type": "json-file", "Config": limits}


def test_processes_in_containers_stay_as_weak_as_they_start(machine: Vps, pulled: str) -> None:
    done = machine.ssh(f"docker run --rm {pulled} grep NoNewPrivs /proc/self/status", user="deploy")
    assert done.stdout.split() == ["NoNewPrivs:", "1"], done.stderr


def test_networks_come_from_the_pool(machine: Vps) -> None:
    form = "{{(index .IPAM.Config 0).Subnet}}"
    script = f"docker network create pooled && docker network inspect --format '{form}' pooled"
    try:
        done = machine.ssh(script, user="deploy")
        assert re.fullmatch(r"10\.201\.\d+\.0/24", done.stdout.split()[-1]), done.stderr
    finally:
        machine.ssh("docker network rm pooled", user="deploy")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_published_ports_answer_on_the_host_itself(machine: Vps, pulled: str, address: str) -> None:
    # Every release asks the proxy there. A container without an IPv6 address is served by Docker's helper.
    knock = f"for i in $(seq 50); do (exec 3<>/dev/tcp/{address}/7000) 2>/dev/null && exit 0; sleep 0.1; done; exit 1"
    # A container's network, and so the lab's, is without IPv6 until told otherwise.
    machine.ssh("sysctl --quiet --write net.ipv6.conf.lo.disable_ipv6=0")
    try:
        started = machine.ssh(
            f"docker run --detach --name knocked --publish 7000:6379 {pulled}", user="deploy"
        )
        assert started.returncode == 0, started.stderr
        assert machine.ssh(f"bash -c '{knock}'", user="deploy").returncode == 0
    finally:
        machine.ssh("docker rm --force knocked; sysctl --quiet --write net.ipv6.conf.lo.disable_ipv6=1")


def test_deploy_is_logged_in_to_the_registry_and_nobody_else(machine: Vps, host: Host, pulled: str) -> None:
    push = f"docker tag {pulled} ghcr.io/acme/logged-in:1 && docker push --quiet ghcr.io/acme/logged-in:1"
    refused = machine.ssh(push)
    assert refused.returncode != 0
    assert "no basic auth credentials" in refused.stderr
    done = machine.ssh(push, user="deploy", timeout=120)
    assert done.returncode == 0, done.stderr
    secret = host.file("/home/deploy/.docker/config.json")
    assert (secret.user, secret.mode) == ("deploy", 0o600)
    assert host.run("runuser -u nobody -- cat /home/deploy/.docker/config.json").failed


def test_compose_starts_and_stops_a_project(machine: Vps, pulled: str) -> None:
    model = json.dumps({"services": {"one": {"image": pulled, "command": "sleep 300", "init": True}}})
    script = """
        set -eu
        test "$(docker compose version --short | cut -d. -f1 | tr -d v)" -ge 2
        cd "$(mktemp --directory)"
        cat > compose.yaml
        docker compose up --detach --wait
        docker compose ps --services --status running
        docker compose down --timeout 5
    """
    done = machine.ssh(script, user="deploy", stdin=model.encode())
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["one"]), done.stderr


def test_buildx_builds(machine: Vps, pulled: str) -> None:
    dockerfile = f"FROM {pulled}\nRUN echo built > /built\n"
    done = machine.ssh("docker buildx build --tag built:here -", user="deploy", stdin=dockerfile.encode())
    assert done.returncode == 0, done.stderr
    assert machine.ssh("docker run --rm built:here cat /built", user="deploy").stdout.strip() == "built"


def test_engine_starts_at_boot(machine: Vps, host: Host) -> None:
    machine.reboot()
    assert host.run("docker info").succeeded
