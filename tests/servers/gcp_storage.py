"""One bucket of Cloud Storage, with the JSON API's rules of names, pages and media."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from tests.servers.gcp_compute import refusal

BUCKET: Final = "llm-snapshots"


class Storage:
    """The objects of the bucket by name. `page` is the maximum number of objects in a page."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.page = 1000

    async def list(self, request: web.Request) -> web.Response:
        if request.match_info["bucket"] != BUCKET:
            return refusal(404, "notFound", "The specified bucket does not exist.")
        if request.query.get("fields") != "items(name,size),nextPageToken":
            return refusal(400, "invalidParameter", "Invalid field selection")
        names = sorted(name for name in self.objects if name.startswith(request.query.get("prefix", "")))
        names = [name for name in names if name > request.query.get("pageToken", "")]
        items = [{"name": name, "size": str(len(self.objects[name]))} for name in names[: self.page]]
        body = {"items": items} if items else {}  # an empty list has no items
        more = {"nextPageToken": items[-1]["name"]} if len(names) > self.page else {}
        return web.json_response({**body, **more})

    async def insert(self, request: web.Request) -> web.Response:
        if request.query.get("uploadType") != "media" or not request.query.get("name"):
            return refusal(400, "required", "Required parameter: name")
        self.objects[request.query["name"]] = content = await request.read()
        return web.json_response({"kind": "storage#object", "name": request.query["name"], "size": str(len(content))})

    async def get(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.objects:
            return web.Response(status=404, text=f"No such object: {BUCKET}/{name}")
        if request.query.get("alt") != "media":
            return web.json_response({"kind": "storage#object", "name": name})
        return web.Response(body=self.objects[name], content_type="application/octet-stream")

    async def delete(self, request: web.Request) -> web.Response:
        if self.objects.pop(request.match_info["name"], None) is None:
            return refusal(404, "notFound", f"No such object: {BUCKET}/{request.match_info['name']}")
        return web.Response(status=204)
