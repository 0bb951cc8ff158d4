"""Operators' routes of templates: the rules by which AWS clients register their things."""

from device_agent.wire.fields import time_text
from fleet.model import Role
from fleet.ra.requests import templates
from fleet.ra.requests.templates import LARGEST_TEMPLATE, TemplateView
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="templates",
            role=Role.VIEWER,
            handler=_list,
            about="Templates of things, by name.",
            answer=Page("Template"),
        ),
        Route(
            method="GET",
            path="templates/{name}",
            role=Role.VIEWER,
            handler=_show,
            about="One template, with its text.",
            answer=One("TemplateFile"),
        ),
        Route(
            method="POST",
            path="templates/{name}",
            role=Role.SECURITY,
            handler=_add,
            about="Hand in a template, also in the place of the one with its name.",
            file="application/toml",
            longest=LARGEST_TEMPLATE,
            answer=One("Template"),
        ),
        Route(
            method="POST",
            path="templates/{name}/remove",
            role=Role.SECURITY,
            handler=_remove,
            about="Take a template away; what was registered by it stays.",
            answer=One("RemovedTemplate"),
        ),
    )


async def _list(asked: Asked) -> Members:
    everything = await templates.list_all(asked.context)
    found, following = page_of(everything, asked.query(), key=lambda view: view.template.name)
    return listed([_members(view) for view in found], following)


async def _show(asked: Asked) -> Members:
    view = await templates.show(asked.context, asked.request.match_info["name"])
    return {**_members(view), "text": view.record.text}


async def _add(asked: Asked) -> Members:
    name = asked.request.match_info["name"]
    return _members(await templates.add(asked.context, name, text=asked.file(), actor=asked.actor))


async def _remove(asked: Asked) -> Members:
    asked.body()
    name = asked.request.match_info["name"]
    await templates.remove(asked.context, name, actor=asked.actor)
    return {"template": name}


def _members(view: TemplateView) -> Members:
    template = view.template
    return {
        "template": template.name,
        "domain": template.domain,
        "batches": template.batches,
        "device_id": template.device_id or None,
        "parameters": [parameter.name for parameter in template.parameters],
        "required": [parameter.name for parameter in template.parameters if parameter.required],
        "configuration": dict(template.configuration),
        "added_at": time_text(view.record.added_at),
        "added_by": view.record.added_by,
    }
