"""Tokens of OAuth for what streams reads with. librdkafka gets its own."""

import asyncio

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from common import logs
from common.errors import AyaflowError
from common.outages import Outages
from common.security.login import OAuth
from common.security.tokens import Tokens

_SERVICE = "the token endpoint"


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # of a library without types
    """Asks for a token when a connection is made. One that is not given is a broker that does not answer."""

    def __init__(self, oauth: OAuth) -> None:
        self._tokens, self._outages = Tokens(oauth), Outages(logs.get("streams"))

    async def token(self) -> str:
        """Raises KafkaConnectionError, after which aiokafka tries again."""
        try:
            found = await asyncio.to_thread(self._tokens.token)
        except AyaflowError as error:
            self._outages.away(_SERVICE, "no token for Kafka; trying again", error=str(error))
            raise KafkaConnectionError(str(error)) from error
        self._outages.back(_SERVICE)
        return found
