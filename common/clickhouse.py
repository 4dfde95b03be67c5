"""The one way to ClickHouse: what clickhouse.url says, and a client for it."""

import ssl
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from common.address import Address
from common.deadline import bounded, bounded_tls, within
from common.errors import SettingsError
from common.security.login import trusting
from common.security.secrets import reveal
from common.settings import ClickHouseSettings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from urllib3 import PoolManager

CONNECT_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a ClickHouse server's HTTP interface is."""

    scheme: str  # http or https
    address: Address
    path: str  # of a proxy before it, such as /clickhouse; empty: none

    @classmethod
    def of(cls, url: str) -> Self:
        """Read one URL of clickhouse.url; a port that it lacks is ClickHouse's own. Raises SettingsError."""
        try:
            parts = urlsplit(url)
            place = parts.netloc.rpartition("@")[2]
        except ValueError:  # half a bracket
            place = ""
        if not place:
            raise SettingsError(f"clickhouse.url: write it as http://HOST:PORT (it is {url!r})")
        address = Address.parse(place, "clickhouse.url", default_port=8443 if parts.scheme == "https" else 8123)
        return cls(scheme=parts.scheme, address=address, path=parts.path.rstrip("/"))

    @property
    def url(self) -> str:
        """The URL that paths such as /ping are put behind."""
        return f"{self.scheme}://{self.address.text}{self.path}"


def endpoints(urls: str) -> tuple[Endpoint, ...]:
    """Those of clickhouse.url, in its order. Raises SettingsError."""
    return tuple(Endpoint.of(url.strip()) for url in urls.split(","))


class Hosts:
    """The hosts of clickhouse.url: one is asked until it fails, then the next. Threads may share it."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        """Raises SettingsError."""
        self._settings = settings
        self._order = deque(endpoints(settings.url))
        self._pools: dict[Endpoint, PoolManager] = {}

    def __len__(self) -> int:
        return len(self._order)

    @property
    def asked(self) -> Endpoint:
        """The one that is asked now."""
        return self._order[0]

    def leave(self) -> None:
        """It failed: the next one is asked from now on, and this one after all others."""
        self._order.rotate(-1)

    def connect(self, *, database: str, timeout_seconds: float) -> "Client":
        """A client, that several threads may use, of the first host that answers.

        `timeout_seconds`: that it waits for the next piece of an answer; for the whole of one as deadline.within says.
        Errors of clickhouse-connect and OSError pass through, those of the last host. Raises SettingsError.
        """
        from clickhouse_connect.driver.exceptions import ClickHouseError

        for _ in range(len(self) - 1):
            try:
                return self._client(database, timeout_seconds)
            except (ClickHouseError, OSError):
                self.leave()
        return self._client(database, timeout_seconds)

    def close(self) -> None:
        """Close all connections that are not in use: a client that is closed leaves its own to the next."""
        for pool in tuple(self._pools.values()):
            pool.clear()

    def _client(self, database: str, timeout_seconds: float) -> "Client":
        import clickhouse_connect  # 120 ms, and not for every command

        settings, endpoint = self._settings, self.asked
        try:
            with within(timeout_seconds):  # it asks what the server is, and has
                return clickhouse_connect.get_client(
                    interface=endpoint.scheme,
                    host=endpoint.address.host,
                    port=endpoint.address.port,
                    proxy_path=endpoint.path,
                    username=settings.username,
                    password=reveal(settings.password, "clickhouse.password"),
                    database=database,
                    connect_timeout=CONNECT_SECONDS,
                    send_receive_timeout=timeout_seconds,
                    autogenerate_session_id=False,
                    pool_mgr=self._pool(endpoint),
                )
        except BaseException:
            self.close()
            raise

    def _pool(self, endpoint: Endpoint) -> "PoolManager":
        if endpoint not in self._pools:
            self._pools[endpoint] = _pool(endpoint, self._settings)
        return self._pools[endpoint]


def connect(settings: ClickHouseSettings, *, database: str, timeout_seconds: float) -> "Client":
    """A client of the first host that answers, as by Hosts.connect."""
    return Hosts(settings).connect(database=database, timeout_seconds=timeout_seconds)


def _pool(endpoint: Endpoint, settings: ClickHouseSettings) -> "PoolManager":
    """Connections that keep to deadline.within, by the environment's proxy where there is one for this server."""
    from clickhouse_connect.driver.httputil import check_env_proxy, get_pool_manager_options
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Connection(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            self.sock = bounded(self.sock)

    class SecureConnection(HTTPSConnection):
        def connect(self) -> None:
            self.ssl_context = bounded_tls(tls(settings))  # each reads the authorities, which may be others by now
            super().connect()

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    options = get_pool_manager_options()
    proxy = check_env_proxy(endpoint.scheme, endpoint.address.host, endpoint.address.port)
    if proxy and not proxy.startswith("http"):
        proxy = f"{endpoint.scheme}://{proxy}"
    manager = ProxyManager(proxy, **options) if proxy else PoolManager(**options)
    manager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}
    return manager


def tls(settings: ClickHouseSettings) -> ssl.SSLContext:
    """For Python's sockets, should the URL be https. Raises SettingsError."""
    return trusting(str(settings.tls_ca) if settings.tls_ca else None, "clickhouse.tls_ca")
