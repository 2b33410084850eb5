"""Projects and tasks."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints
from sqlalchemy import delete, select

from app.models import Activity, Project, Task
from app.resources import Session, Shared

router = APIRouter(prefix="/api", tags=["projects"])

# Without U+0000, which PostgreSQL's text cannot hold.
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00]*$")
]
Limit = Annotated[int, Query(ge=1, le=500)]
# PostgreSQL's bigint: a larger number would be an error of the database.
MAX_ID = 2**63 - 1


class NewProject(BaseModel):
    """What a client sends to create a project."""

    name: Name


class ProjectOut(BaseModel):
    """A project as clients see it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    created_at: datetime


class NewTask(BaseModel):
    """What a client sends to create a task."""

    title: Name
    due_at: AwareDatetime | None = None


class TaskChange(BaseModel):
    """What a client sends to change a task; what is left out stays as it is."""

    title: Name | None = None
    done: bool | None = None
    due_at: AwareDatetime | None = None


class TaskOut(BaseModel):
    """A task as clients see it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    project_id: int
    title: str
    done: bool
    due_at: datetime | None
    overdue: bool
    created_at: datetime


class ActivityOut(BaseModel):
    """Something a webhook told."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    kind: str
    details: dict[str, str]
    created_at: datetime


@router.post("/projects", status_code=201)
async def create_project(new: NewProject, session: Session, resources: Shared) -> ProjectOut:
    """Create a project."""
    project = Project(name=new.name)
    session.add(project)
    await session.commit()
    await resources.feed.publish("project.created", id=project.id)
    return ProjectOut.model_validate(project)


@router.get("/projects", response_model=list[ProjectOut])
async def list_projects(session: Session, limit: Limit = 100) -> Sequence[Project]:
    """List projects, the newest first."""
    return (await session.scalars(select(Project).order_by(Project.id.desc()).limit(limit))).all()


@router.get("/projects/{project_id}", response_model=ProjectOut)
async def get_project(project_id: int, session: Session) -> Project:
    """Return one project."""
    project = await session.get(Project, project_id) if 0 < project_id <= MAX_ID else None
    if project is None:
        raise HTTPException(404, f"there is no project {project_id}")
    return project


@router.post("/projects/{project_id}/tasks", status_code=201)
async def create_task(project_id: int, new: NewTask, session: Session, resources: Shared) -> TaskOut:
    """Create a task in a project."""
    await get_project(project_id, session)
    task = Task(project_id=project_id, title=new.title, due_at=new.due_at)
    session.add(task)
    await session.commit()
    await resources.feed.publish("task.created", id=task.id, project_id=project_id)
    return TaskOut.model_validate(task)


@router.get("/projects/{project_id}/tasks", response_model=list[TaskOut])
async def list_tasks(project_id: int, session: Session, limit: Limit = 100) -> Sequence[Task]:
    """List the tasks of a project, the oldest first."""
    await get_project(project_id, session)
    query = select(Task).where(Task.project_id == project_id).order_by(Task.id).limit(limit)
    return (await session.scalars(query)).all()


async def _get_task(task_id: int, session: Session) -> Task:
    task = await session.get(Task, task_id) if 0 < task_id <= MAX_ID else None
    if task is None:
        raise HTTPException(404, f"there is no task {task_id}")
    return task


@router.patch("/tasks/{task_id}")
async def update_task(task_id: int, change: TaskChange, session: Session, resources: Shared) -> TaskOut:
    """Change a task. The worker decides anew whether it is overdue."""
    task = await _get_task(task_id, session)
    if change.title is not None:
        task.title = change.title
    if change.done is not None:
        task.done = change.done
    if "due_at" in change.model_fields_set:
        task.due_at = change.due_at
    task.overdue = False
    await session.commit()
    await resources.feed.publish("task.updated", id=task.id, project_id=task.project_id)
    return TaskOut.model_validate(task)


@router.delete("/tasks/{task_id}", status_code=204)
async def delete_task(task_id: int, session: Session, resources: Shared) -> None:
    """Delete a task."""
    task = await _get_task(task_id, session)
    await session.execute(delete(Task).where(Task.id == task_id))
    await session.commit()
    await resources.feed.publish("task.deleted", id=task_id, project_id=task.project_id)


@router.get("/activities", response_model=list[ActivityOut])
async def list_activities(session: Session, limit: Limit = 100) -> Sequence[Activity]:
    """List what webhooks told, the newest first."""
    return (await session.scalars(select(Activity).order_by(Activity.id.desc()).limit(limit))).all()


@router.get("/slow")
async def slow(seconds: Annotated[float, Query(ge=0, le=10)] = 3) -> dict[str, float]:
    """Answer after `seconds` (0 to 10). Stands in for a report that takes its time to compute."""
    await asyncio.sleep(seconds)
    return {"seconds": seconds}
