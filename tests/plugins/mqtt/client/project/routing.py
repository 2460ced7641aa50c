"""What comes is written down, one line a message; each write is whole."""

import os
import threading

from django_gateway import mqtt_topic, route


def write(line):
    fd = os.open(os.environ["E2E_SEEN"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


def receive(message, number):
    write(f"{number} {message['bytes'].decode()} {int(message['duplicate'])}")
    threading.Event().wait(0.002)  # so that somebody is always in the middle of one


def connect(message):
    write(f"connect {message['broker']} 0")


def disconnect(message):
    write(f"disconnect {message['broker']} 0")


routing = [
    route("mqtt.receive", receive, topic=mqtt_topic("n/+number")),
    route("mqtt.connect", connect),
    route("mqtt.disconnect", disconnect),
]
