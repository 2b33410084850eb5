"""What the services answer, as far as the pipeline uses them: GitHub's REST API, Telegram's Bot API, Slack's webhooks."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

if TYPE_CHECKING:
    from collections.abc import Callable

GITHUB, TELEGRAM, SLACK = "api.github.com", "api.telegram.org", "hooks.slack.com"
# What these services know here; any other token or chat is refused as the real ones do.
TELEGRAM_TOKEN = "7012345678:AAFslipway-stand-in-of-the-bot-token"
TELEGRAM_CHAT = "-1001234567890"
SLACK_WEBHOOK = f"https://{SLACK}/services/T0SLIPWAY/B0STANDIN/slipwayStandInWebhook01"
TELEGRAM_LONGEST = 4096


@dataclass(frozen=True)
class Seen:
    """One request: `path` with its query, `body` as JSON, a form's fields or text; `kind` says what became of it."""

    host: str
    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = ""
    # request: answered here; tunnel, forward: passed on; refused: would have left this machine
    kind: str = "request"


@dataclass(frozen=True)
class Reply:
    """An answer: `body` is sent as JSON, or as it is where it is a text; `delay` in seconds comes before it."""

    status: int = 200
    body: Any = field(default_factory=dict)
    delay: float = 0


MISSING = Reply(404, {"message": "Not Found", "status": "404"})


class Question(NamedTuple):
    """A request to GitHub, taken apart: `path` holds the parts of it that vary."""

    method: str
    path: dict[str, str]
    query: dict[str, str]
    body: dict[str, Any]


def telegram(seen: Seen) -> Reply:
    """Answer as the Bot API does."""
    call = re.fullmatch(r"/bot([^/]+)/(\w+)", urlsplit(seen.path).path)
    body = seen.body if isinstance(seen.body, dict) else {}
    text = str(body.get("text", ""))
    code, description = 0, ""
    if call is None:
        code, description = 404, "Not Found"
    elif call[1] != TELEGRAM_TOKEN:
        code, description = 401, "Unauthorized"
    elif call[2] != "sendMessage":
        return Reply(
            body={"ok": True, "result": {"id": 7012345678, "is_bot": True, "username": "slipway_bot"}}
        )
    elif str(body.get("chat_id")) != TELEGRAM_CHAT:
        code, description = 400, "Bad Request: chat not found"
    elif not text.strip():
        code, description = 400, "Bad Request: message text is empty"
    elif len(text) > TELEGRAM_LONGEST:
        code, description = 400, "Bad Request: message is too long"
    if code:
        return Reply(code, {"ok": False, "error_code": code, "description": description})
    result = {"message_id": 1, "date": 0, "chat": {"id": int(TELEGRAM_CHAT)}, "text": text}
    return Reply(body={"ok": True, "result": result})


def slack(seen: Seen) -> Reply:
    """Answer as an incoming webhook does."""
    if not SLACK_WEBHOOK.endswith(seen.path):
        return Reply(404, "no_service")
    body = seen.body if isinstance(seen.body, dict) else {}
    if not (body.get("text") or body.get("blocks") or body.get("attachments")):
        return Reply(400, "no_text")
    return Reply(body="ok")


class GitHub:
    """GitHub's REST API: remembers environments and deployments, takes everything else with `{}`."""

    def __init__(self) -> None:
        """Begin without environments and deployments."""
        self.environments: list[str] = []
        self.deployments: list[dict[str, Any]] = []
        self.statuses: dict[int, list[dict[str, Any]]] = {}
        self._public_key = X25519PrivateKey.generate().public_key().public_bytes_raw()
        self._lock = Lock()
        # Below /repos/OWNER/NAME, by method; the first that matches answers.
        self._routes: list[tuple[str, str, Callable[[Question], Reply]]] = [
            ("GET", "", self._repository),
            ("GET", "/environments", self._list_environments),
            ("GET|PUT", "/environments/(?P<name>[^/]+)", self._environment),
            ("GET", "(/actions|/environments/[^/]+)/secrets/public-key", self._key),
            ("PUT", ".*/secrets/.*", lambda _: Reply(201)),
            ("POST", "/deployments", self._deploy),
            ("GET", "/deployments", self._list_deployments),
            (".*", r"/deployments/(?P<number>\d+)(?P<statuses>/statuses)?", self._deployment),
        ]

    def __call__(self, seen: Seen) -> Reply:
        """Answer one request."""
        if "Authorization" not in seen.headers:
            return Reply(401, {"message": "Requires authentication", "status": "401"})
        parts = urlsplit(seen.path)
        query = dict(parse_qsl(parts.query))
        body = seen.body if isinstance(seen.body, dict) else {}
        for method, path, answer in self._routes:
            match = re.fullmatch(f"/repos/(?P<repository>[^/]+/[^/]+){path}", parts.path)
            if match and re.fullmatch(method, seen.method):
                with self._lock:
                    return answer(Question(seen.method, match.groupdict(), query, body))
        return Reply()

    def _repository(self, question: Question) -> Reply:
        name = question.path["repository"]
        owner = {"login": name.partition("/")[0]}
        return Reply(body={"full_name": name, "owner": owner, "default_branch": "main", "private": False})

    def _list_environments(self, _: Question) -> Reply:
        known = [{"id": number, "name": each} for number, each in enumerate(self.environments, start=1)]
        return Reply(body={"total_count": len(known), "environments": known})

    def _environment(self, question: Question) -> Reply:
        name = question.path["name"]
        if question.method == "PUT" and name not in self.environments:
            self.environments.append(name)
        return Reply(body={"name": name, "protection_rules": []}) if name in self.environments else MISSING

    def _key(self, _: Question) -> Reply:
        return Reply(
            body={"key_id": "568250167242549743", "key": base64.b64encode(self._public_key).decode()}
        )

    def _deploy(self, question: Question) -> Reply:
        if "ref" not in question.body:
            return Reply(422, {"message": 'Invalid request.\n\n"ref" wasn\'t supplied.', "status": "422"})
        number = len(self.deployments) + 1
        url = f"https://{GITHUB}/repos/{question.path['repository']}/deployments/{number}"
        made = {"id": number, "environment": "production", "created_at": _now(), "url": url}
        self.deployments.append(made | question.body)
        self.statuses[number] = []
        return Reply(201, self.deployments[-1])

    def _list_deployments(self, question: Question) -> Reply:
        wanted = {
            key: question.query[key] for key in ("environment", "ref", "sha", "task") if key in question.query
        }
        newest_first = reversed(self.deployments)
        return Reply(body=[each for each in newest_first if wanted.items() <= each.items()])

    def _deployment(self, question: Question) -> Reply:
        number = int(question.path["number"])
        if number not in self.statuses:
            return MISSING
        statuses = self.statuses[number]
        if not question.path["statuses"]:
            return Reply(body=self.deployments[number - 1])
        if question.method != "POST":
            return Reply(body=statuses[::-1])
        statuses.append({"id": len(statuses) + 1, "created_at": _now()} | question.body)
        return Reply(201, statuses[-1])


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
