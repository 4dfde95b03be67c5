"""How one logs in to Kafka, as Java's clients read it: properties for Apache's command-line tools."""

from pathlib import Path

from common.errors import SettingsError
from common.security.login import Login, OAuth

_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
_OAUTH = "org.apache.kafka.common.security.oauthbearer"


def client_properties(login: Login) -> str:
    """A file of properties; empty: nothing has to be said. Raises SettingsError."""
    if login.protocol == "plaintext":
        return ""
    values = {"security.protocol": login.protocol.upper()}
    if login.encrypted:
        values |= _tls(login)
    if login.oauth is not None:
        values |= _oauth(login.oauth)
    elif login.mechanism is not None:
        module = _PLAIN if login.mechanism == "PLAIN" else _SCRAM
        words = {"username": login.username, "password": login.password}
        values |= {"sasl.mechanism": login.mechanism, "sasl.jaas.config": _jaas(module, words)}
    return "".join(f"{name}={_escaped(value)}\n" for name, value in values.items())


def system_properties(login: Login) -> list[str]:
    """Flags of `java`. No secret is among them: everybody can read them."""
    if login.oauth is None:
        return []
    return [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={login.oauth.url}"]


def _tls(login: Login) -> dict[str, str]:
    values = {}
    if not login.verified:
        raise SettingsError("kafka.properties: Kafka's tools cannot do without enable.ssl.certificate.verification")
    if not login.named:
        values["ssl.endpoint.identification.algorithm"] = ""
    if login.ca is not None:
        values |= {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": _read(login.ca, "ssl.ca.location")}
    if login.certificate is not None:
        key = _read(login.key or login.certificate, "ssl.key.location")
        if "BEGIN EC PRIVATE KEY" in key or "BEGIN RSA PRIVATE KEY" in key:
            raise SettingsError(
                f"kafka.properties: ssl.key.location: Kafka's tools read PKCS #8 alone; make one of {login.key} with "
                "`openssl pkcs8 -topk8 -nodes`"
            )
        values |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": _read(login.certificate, "ssl.certificate.location"),
            "ssl.keystore.key": key,
        }
        if login.key_password:
            values["ssl.key.password"] = login.key_password
    return values


def _oauth(oauth: OAuth) -> dict[str, str]:
    if oauth.ca is not None:
        raise SettingsError("kafka.properties: Kafka's tools cannot use https.ca.location")
    words = {"clientId": oauth.client_id, "clientSecret": oauth.client_secret}
    if oauth.scope:
        words["scope"] = oauth.scope
    return {
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.login.callback.handler.class": f"{_OAUTH}.OAuthBearerLoginCallbackHandler",
        "sasl.oauthbearer.token.endpoint.url": oauth.url,
        "sasl.jaas.config": _jaas(f"{_OAUTH}.OAuthBearerLoginModule", words),
    }


def _jaas(module: str, words: dict[str, str]) -> str:
    said = " ".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in words.items()
    )
    return f"{module} required {said};"


def _escaped(value: str) -> str:
    """A value as java.util.Properties reads it."""
    return value.replace("\\", "\\\\").replace("\r", "").replace("\n", "\\n")


def _read(path: str, name: str) -> str:
    try:
        return Path(path).read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"kafka.properties: {name}: cannot read {path}: {error}") from error
