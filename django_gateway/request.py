"""Django's request, made of an ``http.request`` message; each part at its first use."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader, BytesIO
from tempfile import SpooledTemporaryFile
from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest, QueryDict, parse_cookie
from django.urls import ResolverMatch
from django.utils.functional import cached_property

from django_gateway.body import BodyStream, collect
from django_gateway.channel import Channel
from django_gateway.message import Message

_META_KEYS: dict[bytes, str] = {
    b"content-type": "CONTENT_TYPE",
    b"content-length": "CONTENT_LENGTH",
}
_MOST_META_KEYS = 1024
"""Header names that are remembered: what browsers send, many times over; a bound, since
clients choose them."""


def _meta_key(name: bytes) -> str:
    key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
    if len(_META_KEYS) < _MOST_META_KEYS:
        _META_KEYS[name] = key
    return key


class GatewayRequest(HttpRequest):
    """A request that came as a message.

    ``message`` is that `Message`, ``reply_channel`` the `Channel` that answers it (for views
    that raise `ResponseLater`).
    """

    _files: Any

    def __init__(self, message: Message) -> None:
        self.message = message
        content = message.content
        self.method = content["method"]
        self.path = path = content["path"]
        root = settings.FORCE_SCRIPT_NAME
        if root is None:
            root = content.get("root_path", "")
        self.script_name = root = root.rstrip("/")
        if not root:
            self.path_info = path
        elif path == root or path.startswith(root + "/"):
            self.path_info = path[len(root) :] or "/"
        else:
            self.path_info = path
            self.path = root + path
        self.resolver_match = None
        self._read_started = False
        self._large_body: BodyStream | None = None
        self._collected: int | None = None
        """The length of a body that was collected."""
        self.resolved: ResolverMatch | None = None
        """The view, where it was looked up to choose the chain, of the path `resolved_of`."""
        self.resolved_of = ""

    def __repr__(self) -> str:
        return f"<GatewayRequest: {self.method} {self.get_full_path()!r}>"

    @property
    def reply_channel(self) -> Channel:
        """Where the request is answered."""
        return self.message.reply_channel

    @property
    def aborted(self) -> bool:
        """Whether reading the body found that it was cut off."""
        return self._large_body is not None and self._large_body.aborted

    # Made at first use: what a view does not ask for costs nothing. A cached_property yields to
    # what Django's own methods assign.

    @cached_property
    def META(self) -> dict[str, Any]:  # type: ignore[override]  # noqa: N802 - Django's name
        """Return the request as CGI variables (PEP 3333)."""
        content = self.message.content
        client = content.get("client")
        server = content.get("server")
        meta: dict[str, Any] = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": self.script_name,
            "PATH_INFO": self.path_info,
            "QUERY_STRING": content["query_string"].decode("latin-1"),
            "SERVER_PROTOCOL": "HTTP/" + content.get("http_version", "1.1"),
            "SERVER_NAME": server[0] if server else "unknown",
            "SERVER_PORT": str(server[1]) if server else "0",
            "wsgi.url_scheme": content.get("scheme", "http"),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
        }
        if client:
            meta["REMOTE_ADDR"] = meta["REMOTE_HOST"] = client[0]
            meta["REMOTE_PORT"] = client[1]
        else:
            meta["REMOTE_ADDR"] = ""
        known = _META_KEYS.get
        for name, value in content["headers"]:
            key = known(name)
            if key is None:
                # "a_b" and "a-b" are one CGI variable: only the proxy's spelling is believed
                if b"_" in name:
                    continue
                key = _meta_key(name)
            text = value.decode("latin-1")
            if key in meta:
                # RFC 9110 5.3 joins by comma, RFC 6265 5.4 cookies by semicolon
                meta[key] += ("; " if key == "HTTP_COOKIE" else ",") + text
            else:
                meta[key] = text
        if "CONTENT_LENGTH" not in meta:
            if self._collected is not None:
                meta["CONTENT_LENGTH"] = str(self._collected)
            elif content.get("body_channel") is None:
                meta["CONTENT_LENGTH"] = str(len(content["body"])) if content["body"] else ""
        return meta

    @cached_property
    def GET(self) -> QueryDict:  # type: ignore[override]  # noqa: N802 - Django's name
        """Return the query string, parsed."""
        return QueryDict(self.message.content["query_string"], encoding=self._encoding)

    @cached_property
    def COOKIES(self) -> dict[str, str]:  # type: ignore[override]  # noqa: N802 - Django's name
        """Return the cookies, parsed."""
        found = [value for name, value in self.message.content["headers"] if name == b"cookie"]
        return parse_cookie(b"; ".join(found).decode("utf-8", "replace"))

    def _get_post(self) -> QueryDict:
        if not hasattr(self, "_post"):
            self._load_post_and_files()
        return self._post

    def _set_post(self, post: QueryDict) -> None:
        self._post = post

    POST = property(_get_post, _set_post)

    def _get_files(self) -> Any:
        if not hasattr(self, "_files"):
            self._load_post_and_files()
        return self._files

    FILES = property(_get_files)

    def _get_scheme(self) -> str:
        return str(self.message.content.get("scheme", "http"))

    @cached_property
    def content_type(self) -> str:  # type: ignore[override]
        """Return the media type of the body."""
        self._read_content_type()
        return str(self.__dict__["content_type"])

    @cached_property
    def content_params(self) -> dict[str, str]:  # type: ignore[override]
        """Return the parameters of the media type."""
        self._read_content_type()
        found: dict[str, str] = self.__dict__["content_params"]
        return found

    @cached_property
    def _encoding(self) -> str | None:
        self.__dict__["_encoding"] = None
        self._read_content_type()
        found: str | None = self.__dict__["_encoding"]
        return found

    def _read_content_type(self) -> None:
        for name, value in self.message.content["headers"]:
            if name == b"content-type":
                self._set_content_type_params({"CONTENT_TYPE": value.decode("latin-1")})  # type: ignore[attr-defined]
                return
        self.__dict__["content_type"] = ""
        self.__dict__["content_params"] = {}

    @cached_property
    def _stream(self) -> Any:  # type: ignore[override]
        content = self.message.content
        channel = content.get("body_channel")
        if channel is None:
            return BytesIO(content["body"])
        self._large_body = BodyStream(content["body"], channel, content["reply_channel"])
        return BufferedReader(self._large_body, 64 * 1024)  # 64 KiB: one piece

    async def collect(self) -> None:
        """Read a large body ahead, on the loop. Raises `RequestAborted`."""
        content = self.message.content
        channel = content.get("body_channel")
        if channel is not None:
            file, self._collected = await collect(
                content["body"], channel, content["reply_channel"]
            )
            self._stream = file

    def parse_file_upload(self, META: Any, post_data: Any) -> Any:  # noqa: N803 - Django's name
        """As Django's, for streamed bodies of unannounced length (chunked) too."""
        if not META.get("CONTENT_LENGTH") and post_data is self:
            # Django's parser needs the length; memory as for an upload of a known one
            with SpooledTemporaryFile(max_size=settings.FILE_UPLOAD_MAX_MEMORY_SIZE) as file:
                for chunk in self._chunks():
                    file.write(chunk)
                length = str(file.tell())
                file.seek(0)
                return super().parse_file_upload(
                    {**META, "CONTENT_LENGTH": length}, cast("Any", file)
                )
        return super().parse_file_upload(META, post_data)

    def _chunks(self) -> Iterator[bytes]:
        while chunk := self.read(64 * 1024):  # 64 KiB: one message of the body's channel
            yield chunk

    def close(self) -> None:
        """Close uploaded files and the body."""
        super().close()
        stream = self.__dict__.get("_stream")
        if stream is not None:
            stream.close()
