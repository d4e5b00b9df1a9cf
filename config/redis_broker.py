"""Redis as a broker, as kombu speaks to it; but what is no message is set aside instead of ending the worker."""

from pathlib import Path
from typing import Any

from kombu.transport import redis

from config.broker import keep_aside, parse


class Channel(redis.Channel):
    """Looks at what Redis hands out before kombu does, which trusts it."""

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous)
        client.set_response_callback("BRPOP", self._whole)
        return client

    def _whole(self, answer: Any, **_options: Any) -> tuple[bytes, bytes] | None:
        """The queue and the message that Redis gave, or None, as where there was no message, for what is none."""
        if not answer:
            return None
        queue, content = answer
        try:
            parse(content, self)
        except Exception as error:  # whatever was put there, the next message is delivered
            keep_aside(Path(self.connection.client.transport_options["folder"]), content, error)
            return None
        return queue, content


class Transport(redis.Transport):
    Channel = Channel
