"""Views, and what they note down for the tests."""

import asyncio
import threading
from collections import deque
from io import BytesIO

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, SkipFile, StopUpload
from django.db import connection, transaction
from django.http import FileResponse, Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from django_gateway import Channel, ConsumeLater, Reject, ResponseLater
from django_gateway.decorators import stream_body

noted: deque = deque()
"""What views noted, in order; cleared before each test."""


def hello(request):
    return HttpResponse("hello")


def meta(request):
    return JsonResponse(
        {
            "meta": {key: str(value) for key, value in request.META.items()},
            "path": request.path,
            "path_info": request.path_info,
            "get": request.GET.dict(),
            "method": request.method,
            "scheme": request.scheme,
            "url": request.build_absolute_uri(),
            "full_path": request.get_full_path(),
            "headers": dict(request.headers),
            "content_type": request.content_type,
            "content_params": request.content_params,
            "encoding": request.encoding,
            "cookies": request.COOKIES,
            "reply_channel": request.reply_channel.name,
        }
    )


@csrf_exempt
def form(request):
    return JsonResponse(
        {"post": dict(request.POST.lists()), "body": request.body.decode("latin-1")}
    )


@csrf_exempt
def upload(request):
    noted.append(type(request.FILES["file"]).__name__)
    return JsonResponse(
        {
            "post": request.POST.dict(),
            "files": {
                name: [file.name, file.size, sum(file.read())]
                for name, file in request.FILES.items()
            },
        }
    )


class Quota(FileUploadHandler):
    """Refuse what is over 100,000 bytes, as the example of Django's documentation does."""

    def receive_data_chunk(self, raw_data, start):
        noted.append(start)
        if start + len(raw_data) > 100_000:
            raise StopUpload(connection_reset="reset" in self.request.GET)
        return raw_data

    def file_complete(self, file_size):
        return None


class Counting(FileUploadHandler):
    """Keep nothing but the number of the bytes; skip the files whose name says so."""

    def new_file(self, *args, **kwargs):
        super().new_file(*args, **kwargs)
        self.size = 0
        if self.file_name.startswith("skip"):
            raise SkipFile

    def receive_data_chunk(self, raw_data, start):
        self.size += len(raw_data)

    def file_complete(self, file_size):
        return Counted(self.file_name, self.size)


class Counted(UploadedFile):
    def __init__(self, name, size):
        super().__init__(None, name, size=size)

    def read(self):
        return b""

    def close(self):
        noted.append("file closed")


@csrf_exempt
def quota_upload(request):
    request.upload_handlers.insert(0, Quota(request))
    files = [[file.name, file.size] for file in request.FILES.values()]
    return JsonResponse({"post": request.POST.dict(), "files": files})


@csrf_exempt
@stream_body
def streamed_quota_upload(request):
    return quota_upload(request)


@csrf_exempt
def body(request):
    try:
        data = request.body
    except UnreadablePostError:
        noted.append("unreadable")
        raise
    return HttpResponse(f"{len(data)} {sum(data)}")


@csrf_exempt
@stream_body
def streamed_body(request):
    return body(request)


@csrf_exempt
@stream_body
def streamed_upload(request):
    return upload(request)


@csrf_exempt
@stream_body
def unread_body(request):
    return HttpResponse("no, thank you", status=403)


@csrf_exempt
def thread_of_body(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 42")
    noted.append(connection._connections[connection._alias])
    Channel("elsewhere").send({"bytes": len(request.body)})
    return HttpResponse(threading.current_thread().name)


def cookies(request):
    response = HttpResponse()
    response.set_cookie("one", "1", httponly=True)
    response.set_cookie("two", "é", max_age=5)
    return response


def error(request):
    raise RuntimeError("broken view")


async def async_error(request):
    raise RuntimeError("broken view")


def send_and_fail(request):
    Channel("elsewhere").send({"from": "a view that fails"})
    raise RuntimeError("broken view")


def send_and_404(request):
    Channel("elsewhere").send({"from": "a view that finds nothing"})
    raise Http404


def reject(request):
    raise Reject(429, "slow down")


async def async_reject(request):
    raise Reject(429, "slow down")


def later(request):
    Channel("jobs").send({"answer": request.reply_channel.name})
    raise ResponseLater


def again(request):
    if request.message.attempt < 3:
        raise ConsumeLater(0)
    return HttpResponse(f"at attempt {request.message.attempt}")


def large(request):
    return HttpResponse(b"x" * 1_000_000)


def stream(request, count):
    def parts():
        try:
            for number in range(count):
                yield b"%06d" % number + b"y" * 200_000 if count > 100 else f"{number},"
        finally:
            noted.append("closed")

    return StreamingHttpResponse(parts())


def short_stream(request):
    def parts():
        try:
            yield b"x" * 200_000
            yield b"y" * 200_000
        finally:
            noted.append(threading.current_thread().name)

    return StreamingHttpResponse(parts())


def broken_stream(request):
    def parts():
        yield b"begun"
        raise RuntimeError("broken stream")

    return StreamingHttpResponse(parts())


async def broken_async_stream(request):
    async def parts():
        yield b"begun"
        raise RuntimeError("broken stream")

    return StreamingHttpResponse(parts())


def small_file(request):
    return FileResponse(BytesIO(bytes(range(256))))


def file(request):
    content = BytesIO(bytes(range(256)) * 4000)
    content.name = "numbers.bin"
    response = FileResponse(content, as_attachment=True)
    response.thread = threading.current_thread().name
    noted.append(content)
    return response


async def async_small_file(request):
    return small_file(request)


async def async_hello(request):
    asyncio.get_running_loop()
    await asyncio.sleep(0)
    return HttpResponse(f"hello from {threading.current_thread().name}")


@csrf_exempt
async def async_body(request):
    return HttpResponse(f"{len(request.body)} {sum(request.body)}")


async def async_stream(request, count):
    async def parts():
        try:
            for number in range(count):
                yield b"z" * 200_000 if count > 100 else f"{number},"
        finally:
            noted.append("closed")

    return StreamingHttpResponse(parts())


async def silent_stream(request):
    async def parts():
        try:
            yield b"begun"
            await asyncio.Event().wait()
        finally:
            noted.append("closed")

    return StreamingHttpResponse(parts())


class Closed:
    """An iterator without end that is no generator."""

    def __iter__(self):
        return self

    def __next__(self):
        return b"x" * 200_000

    def close(self):
        noted.append("close")


class AClosed:
    """The same, asynchronous."""

    def __aiter__(self):
        return self

    async def __anext__(self):
        return b"x" * 200_000

    async def aclose(self):
        noted.append("aclose")


def generator():
    try:
        while True:
            yield b"x" * 200_000
    except GeneratorExit:
        noted.append("GeneratorExit")
        raise


async def agenerator():
    try:
        while True:
            yield b"x" * 200_000
    except GeneratorExit:
        noted.append("GeneratorExit")
        raise


async def waiting():
    try:
        yield b"x" * 200_000
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        noted.append("CancelledError")
        raise


KINDS = {
    "generator": generator,
    "iterator": Closed,
    "agenerator": agenerator,
    "aiterator": AClosed,
    "waiting": waiting,
}


def endless(request, kind):
    response = StreamingHttpResponse(KINDS[kind]())
    response._resource_closers.append(lambda: noted.append("resource"))
    return response


async def async_endless(request, kind):
    return endless(request, kind)


def sync_view_async_stream(request):
    async def parts():
        yield b"from "
        yield threading.current_thread().name

    return StreamingHttpResponse(parts())


async def async_view_sync_stream(request):
    return StreamingHttpResponse(iter([b"a", b"b"]))


def insert(request):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO kept VALUES ('word')")
    if "later" in request.GET:
        raise ResponseLater
    if "reject" in request.GET:
        raise Reject
    return HttpResponse()


def commit(request):
    Channel("a").send({"n": 1}, on_commit=True)
    if "error" in request.GET:
        raise RuntimeError("broken view")
    if "missing" in request.GET:
        raise Http404
    if "back" in request.GET:
        transaction.set_rollback(True)
    return HttpResponse()


def stuck(request):
    Channel("stuck").send({}, immediately=True)
    threading.Event().wait()


def database(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 42")
        (found,) = cursor.fetchone()
    noted.append(connection._connections[connection._alias])
    return HttpResponse(str(found))


def database_file(request):
    database(request)
    return file(request)


async def async_database(request):
    return await sync_to_async(database)(request)


def users(request):
    return HttpResponse(str(User.objects.count()))


async def async_users(request):
    return HttpResponse(str(await User.objects.acount()))


async def async_orm(request):
    return HttpResponse(str(User.objects.count()))
