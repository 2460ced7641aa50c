"""A worker without Django: whatever comes on ``shout.receive`` goes back in capitals.

python plain_worker.py unix:///run/user/1000/gateway.sock
"""

import sys

from gateway import open_layer
from gateway.core.layers.base import OK, send

layer = open_layer(sys.argv[1])
layer.announce(["shout.receive"])
intake = layer.intake(["shout.receive"])
try:
    while delivery := intake.take():
        for message in delivery.messages:
            reply = send(message["reply_channel"], {"text": message["text"].upper()})
            layer.settle(delivery, [OK], [reply])
finally:
    intake.close()
    layer.close()
