"""Ask the public address, one check after another, and tell in one line each what does not hold.

It runs in the controller's own process: starting a module costs half a second, and there is one request for each check.
Where it is asked to, it also tells how long the certificate is valid and, over Ansible's connection, how full the disks are.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
import socket
import ssl
import time
import urllib.request
from http.client import HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead, InvalidURL
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

# The task's arguments and one of its checks. The defaults of the settings are in defaults/main.yml alone.
Settings = dict[str, Any]
Check = dict[str, Any]
CHECK = {
    **{key: {"type": "str", "required": True} for key in ("name", "path")},
    "method": {"type": "str", "default": "GET"},
    "status": {"type": "list", "elements": "int", "default": [200]},
    **{key: {"type": "str"} for key in ("contains", "sha")},
    "headers": {"type": "dict", "default": {}},
    "setting": {"type": "str", "default": "healthcheck_checks"},
}
ARGUMENTS = {
    **{key: {"type": "str", "required": True} for key in ("url", "host_header", "release", "version_key")},
    **{
        key: {"type": "int", "required": True}
        for key in ("timeout", "attempts", "delay", "certificate_days", "disk_free")
    },
    "address": {"type": "str", "default": ""},
    "disk_paths": {"type": "list", "elements": "str", "required": True},
    "validate_certs": {"type": "bool", "required": True},
    "checks": {"type": "list", "elements": "dict", "options": CHECK, "required": True},
}
# What does not hold: its kind (down, certificate, disk, ssh) and its line.
Finding = dict[str, str]
# What check mode may send.
READING = ("GET", "HEAD", "OPTIONS")
# In place of a status: nobody answered, or nothing could be sent.
NOBODY, UNSENT = -1, -2
SHORTEST_SHA = 7
SHOWN = 120
# Seconds for df: a network file system that is gone would hold it for ever.
DISK_TIMEOUT = 20
# Docker may have its own file system; where there is no Docker, or it is down, the root stands in for it.
DOCKER_ROOT = """"$(timeout 5 docker info --format '{{.DockerRootDir}}' 2>/dev/null | grep / || echo /)\""""
DISK = re.compile(r"\S.*\s\d+\s+(?P<used>\d+)\s+(?P<free>\d+)\s+\d+%\s+(?P<mount>/.*)")


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible ships no types
    """Asks every check until it holds or its attempts are used up."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task and return its result."""
        super().run(tmp, task_vars)
        self._host = (task_vars or {}).get("inventory_hostname", "")
        settings: Settings = self.validate_argument_spec(ARGUMENTS)[1]
        reading = self._task.check_mode
        checks = settings["checks"]
        if reading:
            # The new release is not live yet, so its own proofs are left out.
            settings |= {"release": "", "attempts": 1}
            checks = [check for check in checks if not check["sha"] and check["method"] in READING]
        findings = self._findings(checks, settings)
        if settings["disk_free"]:
            findings += self._disks(settings)
        if not findings:
            return {"changed": False, "findings": []}
        return {
            "changed": False,
            # Before a first release nothing answers yet, and a check may be about what only the new release has.
            "failed": not reading,
            # The line break at the end keeps Ansible from wrapping a single line.
            "msg": "\n".join(each["text"] for each in findings) + "\n",
            "findings": findings,
            "_ansible_verbose_always": True,
        }

    def _say(self, text: str) -> None:
        display.display(f"    {self._host}: {text}")

    def _findings(self, checks: list[Check], settings: Settings) -> list[Finding]:
        # Reading the certificates of the system takes as long as some requests, so it is done once.
        context = ssl.create_default_context()
        if not settings["validate_certs"]:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        shown = keep_certificates(context, urlsplit(settings["url"]).hostname)
        findings = []
        for number, check in enumerate(checks, start=1):
            status, line = self._patiently(context, check, settings)
            if line:
                findings.append(_kind("down", line))
            left = [each["name"] for each in checks[number:]]
            if status == NOBODY and left:
                # The others need not be patient as well.
                findings.append(_kind("down", f"{len(left)} more not asked: {', '.join(left)}"))
                break
        if settings["certificate_days"] and shown:
            ends = end_of(shown[-1])
            left = (ends - dt.datetime.now(dt.timezone.utc)) / dt.timedelta(days=1)
            self._say(f"healthcheck certificate: ends in {int(left)} days")
            findings += certificate(left, ends, settings)
        return findings

    def _disks(self, settings: Settings) -> list[Finding]:
        paths = " ".join(shlex.quote(path) for path in settings["disk_paths"])
        # A key that is bound to a command of its own (df -Pk /) answers this as well.
        command = f"LC_ALL=C timeout {DISK_TIMEOUT} df -Pk -- {paths} {DOCKER_ROOT}"
        try:
            done = self._low_level_execute_command(command, sudoable=False)
        except AnsibleConnectionFailure as error:
            advice = "see that the server is up and that host, user, key and host key are right"
            problem = f"cannot be asked over SSH: {_short(' '.join(str(error).split()))}"
            return [_kind("ssh", f"disk: the server {problem}. Next: {advice}")]
        found = disks(done["stdout"])
        for mount, (percent, _) in found.items():
            self._say(f"healthcheck disk {mount}: {percent:.0f} % free")
        return disk_findings(found, done["rc"], done["stderr"], settings)

    def _patiently(self, context: ssl.SSLContext, check: Check, settings: Settings) -> tuple[int, str]:
        """Ask one check until it holds; return the last status, and what is wrong with it."""
        attempt = 1
        while True:
            start = time.monotonic()
            answer = ask(context, check, settings)
            spent = time.monotonic() - start
            line = finding(answer, check, settings, attempt)
            if not line or attempt >= settings["attempts"] or answer.status == UNSENT:
                break
            attempt += 1
            time.sleep(settings["delay"])
        what = {NOBODY: "no answer", UNSENT: "not sent"}.get(answer.status, answer.status)
        patience = f" (attempt {attempt})" if attempt > 1 else ""
        self._say(f"healthcheck {check['name']}: {what} in {spent * 1000:.0f} ms{patience}")
        return answer.status, line


def keep_certificates(context: ssl.SSLContext, host: str | None) -> list[bytes]:
    """Return the list to which connections to this host will add the certificates that they are shown."""
    shown: list[bytes] = []

    class Socket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as Python has it
            super().do_handshake(block)
            # A redirect may lead to somebody else's.
            if self.server_hostname == host and (certificate := self.getpeercert(binary_form=True)):
                shown.append(certificate)

    context.sslsocket_class = Socket
    return shown


class Answer(NamedTuple):
    """What came back: its status, or the reason why there is none; `url` is where redirects have led."""

    status: int
    reason: str = ""
    url: str = ""
    release: str = ""
    content: str = ""


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects of requests that only read, and none at all where a check wants to see one."""

    def __init__(self, *, follow: bool) -> None:
        """Say whether to follow any."""
        self._follow = follow

    def redirect_request(
        self, req: urllib.request.Request, *rest: Any  # noqa: ANN401 - passed on as it comes
    ) -> urllib.request.Request | None:
        """Return the request to follow with, or None to take the redirect itself as the answer."""
        if not self._follow or req.get_method() not in ("GET", "HEAD"):
            return None
        return super().redirect_request(req, *rest)


def handlers(context: ssl.SSLContext, settings: Settings) -> list[urllib.request.BaseHandler]:
    """Return what opens connections: to the address of the settings, where there is one, whatever the name in the URL is."""
    address, asked = settings["address"], urlsplit(settings["url"]).hostname
    if not address:
        return [urllib.request.HTTPSHandler(context=context)]

    def reach(connection: HTTPConnection) -> socket.socket:
        # A redirect may lead to another name, which is asked where it is.
        place = address if connection.host.lower() == asked else connection.host
        return socket.create_connection((place, connection.port), connection.timeout)

    class Plain(HTTPConnection):
        def connect(self) -> None:
            self.sock = reach(self)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            self.sock = context.wrap_socket(reach(self), server_hostname=self.host)

    class Http(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> Any:  # noqa: ANN401 - as Python has it
            return self.do_open(Plain, req)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> Any:  # noqa: ANN401 - as Python has it
            return self.do_open(Secure, req)

    # A proxy of this machine would resolve the name by itself.
    return [urllib.request.ProxyHandler({}), Http(), Https()]


def ask(context: ssl.SSLContext, check: Check, settings: Settings) -> Answer:
    """Send the request of one check and return what came back, whatever it is."""
    until = time.monotonic() + settings["timeout"]
    host = {"Host": settings["host_header"]} if settings["host_header"] else {}
    # A check that wants a redirect must not follow it.
    stays = any(300 <= status < 400 for status in check["status"])
    try:
        try:
            own = {"User-Agent": "slipway-healthcheck", **host}
            headers = own | {name: str(value) for name, value in check["headers"].items()}
            url, method = _url(check, settings), check["method"]
            # tasks/main.yml has seen to it that the URL is http or https.
            request = urllib.request.Request(url, None, headers, method=method)  # noqa: S310
            opener = urllib.request.build_opener(*handlers(context, settings), Redirects(follow=not stays))
            response = opener.open(request, timeout=settings["timeout"])
        except HTTPError as error:
            response = error  # an answer like any other
        with response:
            charset = response.headers.get_content_charset("utf-8")
            content = _body(response, until).decode(charset, "replace")
    except OSError as error:
        reason = error.reason if isinstance(error, URLError) else error
        return Answer(NOBODY, str(reason) or type(reason).__name__)
    except (ValueError, InvalidURL) as error:
        # Python's words quote the header, which may hold a password.
        return Answer(UNSENT, "its path or a header is malformed" if check["headers"] else str(error))
    except (HTTPException, LookupError) as error:  # cut off, not HTTP, or in no charset that there is
        return Answer(NOBODY, f"no usable answer, {type(error).__name__}: {error}")
    url = "" if stays else response.url
    return Answer(response.code, "", url, response.headers.get("X-Slipway-Release", ""), content)


def _url(check: Check, settings: Settings) -> str:
    return f"{settings['url'].rstrip('/')}{check['path']}"


def _body(response: Any, until: float) -> bytes:  # noqa: ANN401 - Python has no type for "answer or error"
    """Return the body. The timeout of a connection is one of silence only, so a trickle is ended here."""
    expected, body = response.length or 0, b""
    while piece := response.read1(1 << 16):
        body += piece
        if time.monotonic() > until:
            raise TimeoutError("timed out")
    if len(body) < expected:
        raise IncompleteRead(body, expected - len(body))
    return body


def finding(answer: Answer, check: Check, settings: Settings, attempts: int = 1) -> str:
    """Return the line that says what is wrong with the answer to one check; empty when it is right."""
    problem, advice = (
        _status(answer, check, settings)
        or _release(answer, settings)
        or _content(answer, check, settings)
        or ("", "")
    )
    if not problem:
        return ""
    url = _url(check, settings)
    where = f" at {settings['address']}" if settings["address"] else ""
    where += f" (redirected to {answer.url})" if answer.url not in ("", url) else ""
    patience = f" after {attempts} attempts" if attempts > 1 else ""
    return f"{check['name']}: {check['method']} {url}{where} {problem}{patience}. Next: {advice}"


def _status(answer: Answer, check: Check, settings: Settings) -> tuple[str, str] | None:
    if answer.status in check["status"]:
        return None
    if answer.status == UNSENT:
        return f"cannot be sent: {_short(answer.reason)}", f"correct it in {check['setting']}"
    if answer.status == NOBODY:
        problem = "cannot be reached"
        name = "healthcheck_address is an address of the server that this machine can reach"
        if not settings["address"]:
            name = "healthcheck_url is the public address and resolves to the server"
        advice = f"see that {name}, and that the proxy runs"
        if "certificate" in answer.reason.lower():
            problem = "has no valid certificate"
            advice = "see that the domain resolves to this server and look for ACME errors in the proxy's log"
        return f"{problem}: {_short(answer.reason)}", advice
    problem = f"answered {answer.status}, expected {' or '.join(str(each) for each in check['status'])}"
    if answer.status >= 500:
        advice = "read the log of the application and the proxy; if it only needs longer, raise healthcheck_attempts"
    else:
        advice = f"see that {check['setting']} is right, and that the proxy knows the host name (healthcheck_host_header)"
    return problem, advice


def _release(answer: Answer, settings: Settings) -> tuple[str, str] | None:
    if settings["release"] in ("", answer.release):
        return None
    problem = (
        f"came from release {_short(answer.release)}" if answer.release else "has no header X-Slipway-Release"
    )
    advice = "see that healthcheck_url leads to this server's proxy and to no other server or cache"
    return f"{problem}, expected {settings['release']}", advice


def _content(answer: Answer, check: Check, settings: Settings) -> tuple[str, str] | None:
    if check["sha"]:
        key = settings["version_key"]
        try:
            sha = str(json.loads(answer.content)[key])
        except (ValueError, KeyError, TypeError):
            advice = "correct healthcheck_version_path or healthcheck_version_key"
            return f"is no JSON with the key {key}", advice
        if not _same_commit(sha, check["sha"]):
            return (
                f"reports {key} {_short(sha)}, expected {check['sha']}",
                "see which image the server runs (docker ps), and that the image was built with its commit in it",
            )
    if check["contains"]:
        try:
            found = re.search(check["contains"], answer.content)
        except re.error as error:
            problem = f"cannot be judged, contains is no regular expression ({error})"
            return problem, "correct it in healthcheck_checks"
        if not found:
            advice = "if the page changed on purpose, change contains in healthcheck_checks"
            return f"lacks {_short(check['contains'])}", advice
    return None


def _same_commit(one: str, other: str) -> bool:
    short, long = sorted((one.lower(), other.lower()), key=len)
    return short == long or (len(short) >= SHORTEST_SHA and long.startswith(short))


def _short(text: str) -> str:
    # One line of it, whatever the server sent.
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def _kind(kind: str, text: str) -> Finding:
    return {"kind": kind, "text": text}


def end_of(shown: bytes) -> dt.datetime:
    """Return until when a certificate (DER) is valid."""
    # Loading it takes longer than all the checks of a release, which does not ask for this.
    from cryptography import x509  # noqa: PLC0415 - see above

    return x509.load_der_x509_certificate(shown).not_valid_after_utc


def certificate(left: float, ends: dt.datetime, settings: Settings) -> list[Finding]:
    """Return what is wrong with a certificate that is valid for `left` more days."""
    wanted = settings["certificate_days"]
    if left >= wanted:
        return []
    when = f"ends in {int(left)} days" if left >= 0 else f"ended {-left:.0f} days ago"
    advice = "look for ACME errors in the proxy's log, and see that the domain resolves to this server alone"
    host = urlsplit(settings["url"]).hostname
    line = f"certificate: that of {host} {when} ({ends:%Y-%m-%d}), expected {wanted} or more. Next: {advice}"
    return [_kind("certificate", line)]


def disks(table: str) -> dict[str, tuple[float, int]]:
    """Return the free percent and the free KiB of each file system, by its mount point, from the output of df."""
    rows = (DISK.fullmatch(line.strip()) for line in table.splitlines())
    return {
        # As df itself: without what is reserved for root.
        row["mount"]: (100 * int(row["free"]) / max(int(row["used"]) + int(row["free"]), 1), int(row["free"]))
        for row in rows
        if row
    }


def disk_findings(
    found: dict[str, tuple[float, int]], code: int, complaint: str, settings: Settings
) -> list[Finding]:
    """Return what is wrong with the disks of a server; `code` and `complaint` are those of df."""
    advice = "find what has grown: docker system df, and du -xh --max-depth=2 / | sort -h"
    lines = [
        f"disk: {percent:.0f} % of {mount} are free ({free / 2**20:.1f} GiB),"
        f" expected {settings['disk_free']} % or more. Next: {advice}"
        for mount, (percent, free) in found.items()
        if percent < settings["disk_free"]
    ]
    if code or not found:
        problem = " ".join(complaint.split()) or f"no answer within {DISK_TIMEOUT} s"
        lines.append(f"disk: df failed: {_short(problem)}. Next: correct healthcheck_disk_paths")
    return [_kind("disk", line) for line in lines]
