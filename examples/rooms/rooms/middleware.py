import logging
import time

log = logging.getLogger(__name__)


def timing(get_outcome):
    """Log how long each consumer takes."""

    def call(message, consumer):
        began = time.monotonic()
        try:
            return get_outcome(message, consumer)
        finally:
            log.info("%s took %.1f ms", consumer.name, 1000 * (time.monotonic() - began))

    return call
