"""How kafka.properties say that one logs in, for clients that are not librdkafka's.

The properties are librdkafka's, whoever reads them: librdkafka itself (producer, console, all that asks), aiokafka
(what streams reads with), Java (Apache's tools). What one of them cannot do is refused, and not left out.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from common.errors import SettingsError
from common.security.secrets import reveal_all
from common.settings import KafkaSettings

PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
OAUTH = "sasl.oauthbearer."
KNOWN = frozenset(
    {
        "security.protocol",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "sasl.password",
        f"{OAUTH}method",
        f"{OAUTH}client.id",
        f"{OAUTH}client.secret",
        f"{OAUTH}token.endpoint.url",
        f"{OAUTH}scope",
        "https.ca.location",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.endpoint.identification.algorithm",
        "enable.ssl.certificate.verification",
    }
)
"""Properties about logging in that every client of ours understands."""
_ABOUT_IT = ("sasl.", "ssl.", "security.", "https.", "enable.ssl.", "enable.sasl.")


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth:
    """Whom to ask for tokens (OAuth 2.0, client credentials)."""

    url: str  # of the token endpoint
    client_id: str
    client_secret: str
    scope: str  # empty: none
    ca: str | None  # PEM file of whom the endpoint is to be certified by; None: the machine's


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How to log in."""

    protocol: str  # one of PROTOCOLS
    mechanism: str | None  # one of MECHANISMS; None: no SASL
    username: str
    password: str
    oauth: OAuth | None  # with OAUTHBEARER
    ca: str | None  # PEM file, or a folder of them; None: the machine's
    certificate: str | None  # PEM file, of mTLS
    key: str | None
    key_password: str
    verified: bool  # the broker's certificate is
    named: bool  # the broker's name is compared with its certificate

    @property
    def encrypted(self) -> bool:
        """By TLS."""
        return self.protocol.endswith("ssl")

    @classmethod
    def of(cls, settings: KafkaSettings, who: str) -> Self:
        """Read it, and the secrets that it names. Raises SettingsError for what only librdkafka can do."""
        given = reveal_all(settings.properties, "kafka.properties")
        unknown = sorted(name for name in given if name.startswith(_ABOUT_IT) and name not in KNOWN)
        if unknown:
            raise _wrong(f"{who} cannot use {unknown[0]}; it knows {', '.join(sorted(KNOWN))}")
        protocol = given.get("security.protocol", "plaintext").lower()
        if protocol not in PROTOCOLS:
            raise _wrong(f"security.protocol is {protocol!r}; use {_or(PROTOCOLS)}")
        mechanism = None
        if protocol.startswith("sasl"):
            mechanism = given.get("sasl.mechanism") or given.get("sasl.mechanisms") or "GSSAPI"  # librdkafka's own
            if mechanism not in MECHANISMS:
                raise _wrong(f"sasl.mechanism is {mechanism!r}, which {who} does not know; use {_or(MECHANISMS)}")
        authority = given.get("ssl.ca.location")
        return cls(
            protocol=protocol,
            mechanism=mechanism,
            username=given.get("sasl.username", ""),
            password=given.get("sasl.password", ""),
            oauth=_oauth(given, who) if mechanism == "OAUTHBEARER" else None,
            ca=None if authority == "probe" else authority,
            certificate=given.get("ssl.certificate.location"),
            key=given.get("ssl.key.location"),
            key_password=given.get("ssl.key.password", ""),
            verified=given.get("enable.ssl.certificate.verification", "true").lower() != "false",
            named=given.get("ssl.endpoint.identification.algorithm", "https").lower() != "none",
        )

    def tls(self) -> ssl.SSLContext | None:
        """For Python's sockets; None: not encrypted. Raises SettingsError."""
        if not self.encrypted:
            return None
        context = trusting(self.ca, "kafka.properties: ssl.ca.location")
        if not (self.verified and self.named):
            context.check_hostname = False
        if not self.verified:
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            try:  # an empty password: else OpenSSL asks the terminal for that of an encrypted key
                context.load_cert_chain(self.certificate, self.key, self.key_password)
            except (OSError, ValueError) as error:
                raise _wrong(f"ssl.certificate.location and ssl.key.location cannot be used: {error}") from error
        return context


def trusting(authority: str | None, setting: str) -> ssl.SSLContext:
    """A context for whom this PEM file, or folder, certifies; None: the machine's authorities. Raises SettingsError."""
    folder = authority is not None and os.path.isdir(authority)  # noqa: PTH112  a name as it stands in a setting
    try:
        return ssl.create_default_context(cafile=None if folder else authority, capath=authority if folder else None)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{setting}: {authority} cannot be used: {error}") from error


def _oauth(given: Mapping[str, str], who: str) -> OAuth:
    if given.get(f"{OAUTH}method", "default").lower() != "oidc":
        raise _wrong(f"{who} gets tokens from an endpoint alone; set {OAUTH}method to oidc")
    for name in ("client.id", "client.secret", "token.endpoint.url"):
        if not given.get(OAUTH + name):
            raise _wrong(f"sasl.mechanism OAUTHBEARER needs {OAUTH}{name}")
    return OAuth(
        url=given[f"{OAUTH}token.endpoint.url"],
        client_id=given[f"{OAUTH}client.id"],
        client_secret=given[f"{OAUTH}client.secret"],
        scope=given.get(f"{OAUTH}scope", ""),
        ca=given.get("https.ca.location"),
    )


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _wrong(what: str) -> SettingsError:
    return SettingsError(f"kafka.properties: {what}")
