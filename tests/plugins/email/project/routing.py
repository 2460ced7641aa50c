"""What is handled is a line in a file, once it is: as durable as a database would have it."""

import os
import time
from pathlib import Path

from django_gateway import route

SEEN = Path(os.environ["E2E_SEEN"])


def note(line):
    with SEEN.open("ab") as file:
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def receive(message):
    subject = message["subject"]
    if subject.startswith("wait"):
        note(f"began {subject}")
        while not Path(f"{SEEN}.go").exists():
            time.sleep(0.01)
    if "raw_channel" in message:
        with message.mail.open() as file:
            subject += f" {sum(map(len, iter(lambda: file.read(65536), b'')))}"
    note(subject)
    if subject.startswith("thanks"):
        message.reply("you are welcome")


routing = [route("email.receive", receive)]
