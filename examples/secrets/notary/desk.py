"""What faces the public: it knows no secret, and hands documents to who does."""

from django_gateway import Channel, Message


def ask(message: Message) -> None:
    """Send the document to the vault, which answers the client itself."""
    if message.get("body_channel") is not None:
        message.reply("too long a document\n", status=413)
        return
    Channel("vault.sign").send(
        {"document": message["body"], "reply_channel": message["reply_channel"]}
    )
