"""What Docker, compose and registries complain about, in one line that names the setting and the mend."""

from __future__ import annotations

import re

from .errors import last_lines

_UNREACHABLE = re.compile(
    r"no such host|connection refused|i/o timeout|TLS handshake|network is unreachable|no route to host|EOF"
    r"|request canceled|deadline exceeded|server misbehaving|certificate|context canceled",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(r"manifest unknown|not found|repository does not exist|no such manifest", re.IGNORECASE)
_DENIED = re.compile(r"unauthorized|denied|authentication required|no basic auth", re.IGNORECASE)


def repository(reference: str) -> str:
    """Return an image reference without its tag and digest."""
    name = reference.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return head + slash + tail.partition(":")[0]


def explain_pull(reference: str, output: str) -> str:
    """Turn what the registry answered into one line with the mend."""
    host = reference.partition("/")[0]
    reason = (last_lines(output, 1) or "no answer").removeprefix("Error response from daemon: ")
    if _DENIED.search(output):
        return (
            f"the registry {host} refuses to hand out {reference}: check app_deploy_registry (host, username, "
            f"password), and that the tag exists ({reason})"
        )
    if _UNKNOWN.search(output):
        return f"the registry has no image {reference}: check the tag (-e tag=…), or push it first ({reason})"
    if _UNREACHABLE.search(output):
        return f"the registry {host} cannot be reached from this server: check its network, DNS and clock ({reason})"
    if "no space left" in output:
        return f"the disk is full while pulling {reference}: free some space on this server ({reason})"
    return f"cannot pull {reference}: {reason}"


def explain_config(output: str) -> str:
    """Turn compose's complaint about files or variables into one line with the mend."""
    lines = [line for line in output.splitlines() if line.strip()]
    missing = re.findall(r"required variable (\w+) is missing a value(?:: ([^\n\"]*))?", output)
    if missing:
        names = ", ".join(dict.fromkeys(name for name, _ in missing))
        return (
            f"the compose file needs {names}, which is not set: add it to app_deploy_env, or to the vault as "
            f"app_deploy_secrets, or to the whole .env file in app_deploy_env_file"
        )
    blank = re.findall(r'The \\?"(\w+)\\?" variable is not set', output)
    if blank:
        names = ", ".join(dict.fromkeys(blank))
        return (
            f"the compose file uses {names}, which is not set: add it to app_deploy_env or app_deploy_secrets"
        )
    if ".env" in output:
        return f"the env file is not valid: {lines[-1]}" if lines else "the env file is not valid"
    return f"the compose files are not valid: {lines[-1] if lines else 'docker compose config failed'}"
