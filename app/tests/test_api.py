"""Projects, tasks and the page."""

import httpx
import pytest
from pydantic import SecretStr

from app.tests.conftest import Serve

PAST = "2020-01-01T00:00:00Z"


async def create_project(client: httpx.AsyncClient, name: str = "Garden") -> int:
    answer = await client.post("/api/projects", json={"name": name})
    assert answer.status_code == 201, answer.text
    project_id: int = answer.json()["id"]
    return project_id


async def test_projects(client: httpx.AsyncClient) -> None:
    first, second = await create_project(client, "  Garden "), await create_project(client, "House")

    listed = [project["id"] for project in (await client.get("/api/projects")).json()]
    assert listed.index(second) < listed.index(first), "the newest comes first"
    assert (await client.get(f"/api/projects/{first}")).json()["name"] == "Garden"
    assert len((await client.get("/api/projects", params={"limit": 1})).json()) == 1


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, None])
async def test_a_project_needs_a_name(client: httpx.AsyncClient, name: str | None) -> None:
    assert (await client.post("/api/projects", json={"name": name})).status_code == 422


async def test_tasks(client: httpx.AsyncClient) -> None:
    project = await create_project(client)
    tasks = f"/api/projects/{project}/tasks"
    created = await client.post(tasks, json={"title": "Dig", "due_at": PAST})
    assert created.status_code == 201
    task = created.json()
    assert (task["project_id"], task["done"], task["overdue"]) == (project, False, False)

    changed = (
        await client.patch(f"/api/tasks/{task['id']}", json={"done": True, "title": "Dig deep"})
    ).json()
    assert (changed["title"], changed["done"], changed["due_at"]) == ("Dig deep", True, PAST)
    changed = (await client.patch(f"/api/tasks/{task['id']}", json={"due_at": None})).json()
    assert (changed["title"], changed["done"], changed["due_at"]) == ("Dig deep", True, None)
    assert (await client.get(tasks)).json() == [changed]

    assert (await client.delete(f"/api/tasks/{task['id']}")).status_code == 204
    assert (await client.get(tasks)).json() == []
    assert (await client.delete(f"/api/tasks/{task['id']}")).status_code == 404


async def test_a_due_date_needs_a_time_zone(client: httpx.AsyncClient) -> None:
    tasks = f"/api/projects/{await create_project(client)}/tasks"
    assert (
        await client.post(tasks, json={"title": "Dig", "due_at": "2020-01-01T00:00:00"})
    ).status_code == 422


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, 2**63, 2**80])
async def test_what_does_not_exist(client: httpx.AsyncClient, number: int) -> None:
    for method, path in (
        ("GET", f"/api/projects/{number}"),
        ("GET", f"/api/projects/{number}/tasks"),
        ("POST", f"/api/projects/{number}/tasks"),
        ("PATCH", f"/api/tasks/{number}"),
        ("DELETE", f"/api/tasks/{number}"),
    ):
        answer = await client.request(
            method, path, json=None if method in {"GET", "DELETE"} else {"title": "x"}
        )
        assert answer.status_code == 404, f"{method} {path}: {answer.text}"
        assert str(number) in answer.json()["detail"]


async def test_text_that_postgresql_cannot_hold_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/api/projects", json={"name": "a\0b"})).status_code == 422
    tasks = f"/api/projects/{await create_project(client)}/tasks"
    assert (await client.post(tasks, json={"title": "a\0b"})).status_code == 422


async def test_slow_takes_its_time_within_bounds(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/slow", params={"seconds": 0.3})
    assert answer.json() == {"seconds": 0.3}
    assert answer.elapsed.total_seconds() >= 0.3
    for seconds in ("-1", "10.1", "nan", "inf"):
        assert (await client.get("/api/slow", params={"seconds": seconds})).status_code == 422


async def test_the_page_shows_the_version(serve: Serve) -> None:
    with serve(app_version="v1.2.3<", git_sha="0123456789abcdef") as url:
        async with httpx.AsyncClient(base_url=url) as client:
            page = await client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "v1.2.3&lt;" in page.text
    assert "(0123456789ab)" in page.text
    assert "{{" not in page.text


async def test_each_answer_has_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/health")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


async def test_a_database_that_is_away_is_told_as_such(serve: Serve, nowhere: str) -> None:
    with serve(database_url=SecretStr(f"postgresql+asyncpg://u:p@{nowhere}/x")) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.get("/api/projects")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "database is away" in answer.json()["detail"]
            assert (await client.get("/health")).status_code == 200
