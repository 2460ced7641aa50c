"""Views of large files, uploads, and how both end; under ``/transfers/``."""

import os
import time
import zlib
from pathlib import Path

from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import conditional_page
from django.views.static import serve
from routing import seen

from django_gateway import asgi, route
from django_gateway.decorators import stream_body

FILES = Path(os.environ.get("E2E_FILES", "/nonexistent"))
BLOCK = b"0123456789abcdef" * 4096


class Noted:
    """A file whose closing is noted."""

    def __init__(self, name):
        self._file = (FILES / name).open("rb")
        self.name = self._file.name

    def read(self, size):
        return self._file.read(size)

    def seek(self, *where):
        return self._file.seek(*where)

    def tell(self):
        return self._file.tell()

    def seekable(self):
        return True

    def close(self):
        self._file.close()
        seen("closed")


def file(request, name):
    return FileResponse(Noted(name), content_type="application/octet-stream")


@conditional_page
def dated(request, name):
    response = FileResponse((FILES / name).open("rb"))
    response["Last-Modified"] = "Tue, 17 Nov 2026 10:00:00 GMT"
    return response


def ranged(request, name):
    """Answer as RFC 9110 section 14 has it, which Django leaves to the view."""
    content = (FILES / name).read_bytes()
    wanted = request.headers.get("Range", "")
    if wanted == "bytes=10-19":
        response = HttpResponse(content[10:20], status=206)
        response["Content-Range"] = f"bytes 10-19/{len(content)}"
        return response
    if wanted == "bytes=0-":
        response = FileResponse((FILES / name).open("rb"), status=206)
        response["Content-Range"] = f"bytes 0-{len(content) - 1}/{len(content)}"
        return response
    if wanted == "bytes=0-1,-2":
        parts = [(0, content[:2]), (len(content) - 2, content[-2:])]
        return StreamingHttpResponse(
            (
                *(
                    f"--cut\r\nContent-Range: bytes {at}-{at + len(part) - 1}/{len(content)}"
                    "\r\n\r\n".encode()
                    + part
                    + b"\r\n"
                    for at, part in parts
                ),
                b"--cut--\r\n",
            ),
            status=206,
            content_type="multipart/byteranges; boundary=cut",
        )
    response = HttpResponse(status=416)
    response["Content-Range"] = f"bytes */{len(content)}"
    return response


def stream(request, blocks):
    def parts():
        try:
            for _ in range(blocks):
                yield BLOCK
        finally:
            seen("closed")

    return StreamingHttpResponse(parts())


async def astream(request, blocks):
    async def parts():
        try:
            for _ in range(blocks):
                yield BLOCK
        finally:
            seen("closed")

    return StreamingHttpResponse(parts())


def upload(request):
    """Take a form's file, or the body as it is; say how much came and its checksum."""
    if request.content_type.startswith("multipart/"):
        (found,) = request.FILES.values()
        seen(type(found).__name__)
        chunks = found.chunks()
    else:
        chunks = iter(lambda: request.read(65536), b"")
    size = checksum = 0
    for chunk in chunks:
        size += len(chunk)
        checksum = zlib.crc32(chunk, checksum)
    return HttpResponse(f"{size} {checksum}")


def unread(request):
    return HttpResponse("who cares")


def left(message):
    seen(f"left {message.content['path']}")


def slurp(message):
    """Read a body no further than the file ``go`` allows."""
    layer = asgi.channel_layers["default"]
    while not (FILES / "go").exists():
        time.sleep(0.01)
    size = len(message.content["body"])
    more = True
    while more:
        _, piece = layer.receive([message.content["body_channel"]], block=5)
        size += len(piece["content"])
        more = piece["more_content"]
    message.reply(status=200, content=b"%d" % size)


urlpatterns = [
    path("file/<name>", file),
    path("dated/<name>", dated),
    path("ranged/<name>", ranged),
    path("static/<path:path>", serve, {"document_root": FILES}),
    path("stream/<int:blocks>", stream),
    path("astream/<int:blocks>", astream),
    path("upload", upload),
    path("streamed-upload", stream_body(upload)),
    path("unread", unread),
    path("streamed-unread", stream_body(unread)),
]

routing = [
    route("http.disconnect", left, path="^/transfers/"),
    route("http.request", slurp, path="^/transfers/slurp$"),
]
