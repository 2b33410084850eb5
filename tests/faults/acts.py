"""What is done in each case: every function returns the act, which is given the server and a tag, and runs the command."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from lab import engine, registry
from tests.e2e.server import APP
from tests.faults.bench import PSQL, TRAEFIK, Done

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.bench import Bench

    Act = Callable[[Bench, str], Done]

KILLED = Done(-signal.SIGKILL, "")


# Whoever carries the release out is killed.


def kill_engine(stage: str, delay: float = 0) -> Act:
    """Kill the engine's process on the server where a stage begins, or so many seconds later."""

    def act(bench: Bench, tag: str) -> Done:
        with bench.paused(stage, lambda: bench.begin(tag), delay) as (run, process):
            bench.root(f"kill -KILL {process}")
        return run.wait()

    return act


def kill_controller(stage: str) -> Act:
    """Kill ansible-playbook where a stage begins; the release goes on and is waited for."""

    def act(bench: Bench, tag: str) -> Done:
        with bench.paused(stage, lambda: bench.begin(tag)) as (run, _):
            run.kill()
        bench.idle()
        return KILLED

    return act


def cut(stage: str, after: float = 0) -> Act:
    """Cut every SSH connection of the deploy user where a stage begins, or so many seconds later.

    The controller asks what it has begun in its first second; after that it knows the release, and can attach again.
    """

    def act(bench: Bench, tag: str) -> Done:
        with bench.paused(stage, lambda: bench.begin(tag)) as (run, _):
            time.sleep(after)
            bench.root("pkill -KILL -u deploy sshd")
        done = run.wait()
        bench.idle()
        return done

    return act


def restart_docker(stage: str) -> Act:
    """Restart Docker where a stage begins, and let the release meet it while it is away."""

    def act(bench: Bench, tag: str) -> Done:
        with bench.paused(stage, lambda: bench.begin(tag)) as (run, _):
            # systemd refuses a service that is restarted often, whoever asks.
            bench.root("systemctl reset-failed docker; systemctl restart --no-block docker; sleep 0.2")
        bench.until("Docker", lambda: bench.server.vps.exec("docker", "version").returncode == 0)
        return run.wait()

    return act


def restart_docker_alone(bench: Bench, tag: str) -> Done:
    """Restart Docker while no release runs. Then release."""
    bench.root("systemctl reset-failed docker; systemctl restart docker")
    return bench.deploy(tag)


def restart_server(stage: str, *, hard: bool = True) -> Act:
    """Cut the server's power where a stage begins, or reboot it in good order."""

    def act(bench: Bench, tag: str) -> Done:
        with bench.paused(stage, lambda: bench.begin(tag)) as (run, _), bench.outage():
            bench.server.vps.reboot(hard=hard)
        return run.wait()

    return act


# What a release needs is not there.


def without_registry(bench: Bench, tag: str) -> Done:
    """Release while the registry is down."""
    registry.stop()
    bench.lift.callback(registry.start)
    return bench.deploy(tag)


def registry_lost(bench: Bench, tag: str) -> Done:
    """Freeze the registry where the pull begins, of an image that is too large to be here at once."""
    with bench.paused("pull", lambda: bench.begin(tag, limits={"pull": 5})) as (run, _):
        engine.output("pause", registry.CONTAINER)
        bench.lift.callback(engine.output, "unpause", registry.CONTAINER)
    return run.wait()


def release(*arguments: str, **limits: float) -> Act:
    """Just release: what is wrong is in the image or in the settings."""
    return lambda bench, tag: bench.deploy(tag, *arguments, limits=limits)


def badly_served(**limits: float) -> Act:
    """Release an image that goes bad after it was switched to."""

    def act(bench: Bench, tag: str) -> Done:
        done = bench.deploy(tag, limits=limits)
        bench.blame()
        return done

    return act


def locked(bench: Bench, tag: str) -> Done:
    """Migrate while a transaction of the version that serves holds a lock on the table."""
    transaction = "begin; select count(*) from projects; select pg_sleep(60)"
    bench.server.must(f'nohup {PSQL} -c "{transaction}" >/dev/null 2>&1 </dev/null &')
    bench.lift.callback(
        bench.sql,
        "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(60)' and pid <> pg_backend_pid()",
    )
    return bench.deploy(tag, "-e", bench.migrations(lock_timeout=1))


def impatient(bench: Bench, tag: str) -> Done:
    """Migrate with a limit of six seconds."""
    return bench.deploy(tag, "-e", bench.migrations(timeout=6))


def down(container: str, stage: str = "") -> Act:
    """Stop a service, before the release or where a stage begins; nobody starts it again but a release."""

    def act(bench: Bench, tag: str) -> Done:
        if not stage:
            with bench.outage():
                bench.root(f"docker stop --time 5 {container}")
                return bench.deploy(tag)
        with bench.paused(stage, lambda: bench.begin(tag)) as (run, _):
            bench.after.enter_context(bench.outage())
            bench.root(f"docker kill {container}")
        return run.wait()

    return act


def frozen(container: str) -> Act:
    """Freeze a service for the time of the release."""

    def act(bench: Bench, tag: str) -> Done:
        with bench.outage():
            bench.root(f"docker pause {container}")
            try:
                return bench.deploy(tag)
            finally:
                bench.root(f"docker unpause {container}")

    return act


def crash_proxy(stage: str) -> Act:
    """Kill the proxy's process where a stage begins; Docker starts it again."""

    def act(bench: Bench, tag: str) -> Done:
        with bench.outage(), bench.paused(stage, lambda: bench.begin(tag)) as (run, _):
            bench.root(f"kill -KILL $(docker inspect --format '{{{{.State.Pid}}}}' {TRAEFIK})")
        return run.wait()

    return act


def broken_routes(bench: Bench, tag: str) -> Done:
    """Overwrite the proxy's file with what is no configuration, and release."""
    bench.root(f"echo 'http: [' > {APP}/proxy/project-manager.yml")
    return bench.deploy(tag)


def broken_file(bench: Bench, tag: str) -> Done:
    """Put a file beside it that is no configuration, so that the proxy takes no change any more."""
    bench.root(f"echo 'http: [' > {APP}/proxy/other.yml")
    bench.lift.callback(bench.root, f"rm {APP}/proxy/other.yml")
    return bench.deploy(tag)


def full(stage: str) -> Act:
    """Fill the disk where a stage begins."""

    def act(bench: Bench, tag: str) -> Done:
        with bench.paused(stage, lambda: bench.begin(tag)) as (run, _):
            bench.fill()
        return run.wait()

    return act


def full_before(bench: Bench, tag: str) -> Done:
    """Fill the disk, and release."""
    bench.fill()
    return bench.deploy(tag)


# What the engine remembers is damaged.


def journal(damage: str) -> Act:
    """Damage the journal while no release runs, and release."""

    def act(bench: Bench, tag: str) -> Done:
        bench.server.must(f"cd {APP} && {damage}")
        return bench.deploy(tag)

    return act


# Two at once.


def second(first: str, then: str, stage: str = "gate") -> Act:
    """Run a playbook while another one is in a stage; the second is what the case tells of."""

    def act(bench: Bench, tag: str) -> Done:
        with bench.paused(stage, lambda: bench.begin(tag, playbook=first)) as (run, _):
            refused = bench.begin(tag, playbook=then).wait()
        done = run.wait()
        assert done.code == 0, done.text
        return refused

    return act


def taken_port(bench: Bench, tag: str) -> Done:
    """Release with one more accessory, whose published port belongs to another program."""
    bench.root("systemd-run --quiet --unit=faults-port python3 -m http.server --bind 127.0.0.1 9090")
    bench.lift.callback(bench.root, "systemctl stop faults-port")
    bench.until("the program", lambda: "9090" in bench.root("ss -lnt"))
    with bench.compose(
        "services: {spare: {image: redis:7-alpine, ports: ['127.0.0.1:9090:6379']}}\n"
    ) as argument:
        return bench.deploy(tag, "-e", argument)
