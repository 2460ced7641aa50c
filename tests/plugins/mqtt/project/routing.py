"""Who is let in, and what becomes of what devices say."""

from django_gateway import MqttConsumer, Reject, idempotent, mqtt_topic, route, route_class


class Temperature(MqttConsumer):
    topics = ("sensors/+sensor/temp", "sensors/+sensor/hum")
    channel_session_user = True

    def connect(self, message):
        if message["username"] is not None and not message.user.is_authenticated:
            raise Reject(0x86, "who are you?")

    def receive(self, message, sensor):
        who = message.user.get_username() or "somebody"
        self.publish(f"seen/{sensor}", text=f"{sensor}={message.text} by {who}", qos=1)


runs = []


@idempotent
def once(message):
    runs.append(message.text)
    message.reply(f"run {len(runs)}", topic="ran", qos=1)


def anything(message):
    message.reply(f"you said {message.text}")


def quiet(message):
    pass


routing = [
    route_class(Temperature),
    route("mqtt.receive", once, topic=mqtt_topic("once/#")),
    route("mqtt.receive", quiet, topic=mqtt_topic("js/#")),
    route("mqtt.receive", anything),
]
