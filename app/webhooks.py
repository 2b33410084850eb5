"""GitHub's webhooks: signed with SECRET_KEY, recorded as activities."""

import hashlib
import hmac
import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Request
from sqlalchemy.dialects.postgresql import insert

from app.models import Activity
from app.resources import Session, Shared

router = APIRouter(tags=["webhooks"])

# GitHub sends up to 25 MB; this application wants only a few fields of it.
BODY_MAX = 1024 * 1024


@router.post("/webhooks/github", status_code=202)
async def github(  # noqa: PLR0913 - one parameter per header
    *,
    request: Request,
    session: Session,
    resources: Shared,
    x_github_event: Annotated[str, Header(max_length=100)],
    x_github_delivery: Annotated[str, Header(max_length=100)],
    x_hub_signature_256: Annotated[str, Header()] = "",
) -> dict[str, bool]:
    """Record a delivery; `{"new": false}` if it is recorded already.

    Answers 401 to a signature that is missing or wrong, 413 to more than 1 MiB and 400 to what is not JSON.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            raise HTTPException(413, f"the body is larger than {BODY_MAX} bytes")

    key = resources.settings.secret_key.get_secret_value().encode()
    expected = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
    # As bytes: compare_digest refuses text that is not ASCII.
    if not hmac.compare_digest(expected.encode(), x_hub_signature_256.encode()):
        raise HTTPException(401, "X-Hub-Signature-256 is missing or wrong")
    try:
        payload = json.loads(body)
    except ValueError:
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(payload, dict):
        raise HTTPException(400, "the body is not a JSON object")

    row = {"delivery": x_github_delivery, "kind": f"github.{x_github_event}", "details": _details(payload)}
    # GitHub repeats deliveries on request: each counts once.
    statement = insert(Activity).values(row).on_conflict_do_nothing().returning(Activity.id)
    activity_id = await session.scalar(statement)
    await session.commit()
    if activity_id is not None:
        await resources.feed.publish("activity.created", id=activity_id, kind=row["kind"])
    return {"new": activity_id is not None}


def _details(payload: dict[str, Any]) -> dict[str, str]:
    """Keep the few fields a person wants to see; a payload holds a lot that is nobody's business here."""
    repository, sender = payload.get("repository"), payload.get("sender")
    found = {
        "action": payload.get("action"),
        "ref": payload.get("ref"),
        "repository": repository.get("full_name") if isinstance(repository, dict) else None,
        "sender": sender.get("login") if isinstance(sender, dict) else None,
    }
    # PostgreSQL's JSON cannot hold the character U+0000.
    return {name: value.replace("\0", "")[:200] for name, value in found.items() if isinstance(value, str)}
