from django_gateway import route


def echo(message):
    message.reply(message.text)


routes = [route("websocket.receive", echo)]
