"""What runs in the vault's worker alone: ``VAULT_KEY_FILE`` names a file that only it may read."""

import hmac
import os
from functools import cache
from pathlib import Path

from django_gateway import Message


@cache
def key() -> bytes:
    return Path(os.environ["VAULT_KEY_FILE"]).read_bytes()


def sign(message: Message) -> None:
    """Answer whoever asked, wherever they are connected."""
    message.reply(hmac.digest(key(), message["document"], "sha256").hex() + "\n")
