"""Middleware of consumers, and of views, and what the tests find wrong with some."""

import asyncio
import threading

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import MiddlewareNotUsed
from django.utils.decorators import async_only_middleware, sync_and_async_middleware

from django_gateway import Channel, Reject
from tests.django.project.views import noted


def tell(message, consumer):
    noted.append(
        (consumer.name, consumer.function.__name__, dict(consumer.kwargs), consumer.is_async)
    )


@sync_and_async_middleware
def first(get_outcome):
    """Note what happens, and when."""
    if iscoroutinefunction(get_outcome):

        async def call(message, consumer):
            noted.append("first before")
            try:
                outcome = await get_outcome(message, consumer)
            except BaseException as error:
                noted.append(f"first {type(error).__name__}")
                raise
            noted.append(f"first {outcome.kind}")
            return outcome

    else:

        def call(message, consumer):
            noted.append("first before")
            try:
                outcome = get_outcome(message, consumer)
            except BaseException as error:
                noted.append(f"first {type(error).__name__}")
                raise
            noted.append(f"first {outcome.kind}")
            return outcome

    return call


@sync_and_async_middleware
class Second:
    """The same as a class; an error of a key becomes a refusal, others are swallowed."""

    def __init__(self, get_outcome):
        self.get_outcome = get_outcome
        self.is_async = iscoroutinefunction(get_outcome)

    def __call__(self, message, consumer):
        return self.acall(message, consumer) if self.is_async else self.call(message, consumer)

    def call(self, message, consumer):
        tell(message, consumer)
        try:
            return self.get_outcome(message, consumer)
        except KeyError as error:
            raise Reject(4004, "no such thing") from error
        except ZeroDivisionError:
            message.reply("divided by zero")
            return None

    async def acall(self, message, consumer):
        tell(message, consumer)
        try:
            return await self.get_outcome(message, consumer)
        except KeyError as error:
            raise Reject(4004, "no such thing") from error
        except ZeroDivisionError:
            message.reply("divided by zero")
            return None


def where(get_outcome):
    """Synchronous only."""

    def call(message, consumer):
        noted.append(("where", threading.current_thread().name))
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            noted.append("no loop")
        return get_outcome(message, consumer)

    return call


@async_only_middleware
def awhere(get_outcome):
    """Asynchronous only."""

    async def call(message, consumer):
        asyncio.get_running_loop()
        noted.append(("awhere", threading.current_thread().name))
        await asyncio.sleep(0)
        return await get_outcome(message, consumer)

    return call


def censor(get_outcome):
    """Read, drop and add sends; take an argument away, and one more."""

    def call(message, consumer):
        Channel("seen").send({"before": True})
        consumer.kwargs["room"] = consumer.kwargs.pop("room").upper()
        outcome = get_outcome(message, consumer)
        noted.extend((one.verb, one.name, one.content, one.member) for one in consumer.sends)
        noted.append(repr(consumer.sends[1]))
        consumer.sends = [one for one in consumer.sends if one.name != "secret"]
        Channel("seen").send({"after": True})
        return outcome

    return call


def gate(get_outcome):
    """Let nobody in."""

    def call(message, consumer):
        raise Reject(4003, "closed")

    return call


def answers(get_outcome):
    """Answer without the consumer."""

    def call(message, consumer):
        message.reply("not today")

    return call


def unused(get_outcome):
    raise MiddlewareNotUsed("not here")


made = []


def counted(get_outcome):
    """Note each time that it is made."""
    made.append(iscoroutinefunction(get_outcome))
    return get_outcome


counted.async_capable = True


def returns_none(get_outcome):
    """Forget to return what it makes."""


def returns_text(get_outcome):
    return "call"


def of_views(get_response):
    def middleware(request):
        return get_response(request)

    return middleware


def greedy(get_outcome):
    def call(message, consumer, more):
        return get_outcome(message, consumer)

    return call


async def afactory(get_outcome):
    return get_outcome


def incapable(get_outcome):
    return get_outcome


incapable.sync_capable = False

not_callable = 3


def wrong_result(get_outcome):
    def call(message, consumer):
        get_outcome(message, consumer)
        return "done"

    return call


def openly_async(get_outcome):
    async def call(message, consumer):
        return await get_outcome(message, consumer)

    return call


def secretly_async(get_outcome):
    acall = openly_async(get_outcome)

    def call(message, consumer):
        return acall(message, consumer)

    return call


@sync_and_async_middleware
def secretly_sync(get_outcome):
    def call(message, consumer):
        return None

    return call
