import ssl
from pathlib import Path

import pytest

from common.errors import SettingsError
from common.security.login import KNOWN, Login
from common.settings import KafkaSettings
from deploy.local.kafka.java import client_properties, system_properties

OAUTH = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "OAUTHBEARER",
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.client.id": "me",
    "sasl.oauthbearer.client.secret": "hush",
    "sasl.oauthbearer.token.endpoint.url": "https://idp/token",
}


def login(**given: str) -> Login:
    return Login.of(
        KafkaSettings(properties={name.replace("_", "."): value for name, value in given.items()}), "streams"
    )


def test_without_properties_it_is_plain_text() -> None:
    plain = login()
    assert (plain.protocol, plain.mechanism, plain.tls()) == ("plaintext", None, None)
    assert client_properties(plain) == ""


def test_the_brokers_name_and_certificate_are_looked_at_unless_told_otherwise() -> None:
    context = login(security_protocol="ssl").tls()
    assert context is not None
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    context = login(security_protocol="ssl", ssl_endpoint_identification_algorithm="none").tls()
    assert context is not None
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_REQUIRED)
    context = login(security_protocol="ssl", enable_ssl_certificate_verification="false").tls()
    assert context is not None
    assert context.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"security.protocol": "tls"}, "security.protocol is 'tls'; use plaintext, ssl, sasl_plaintext or sasl_ssl"),
        ({"security.protocol": "sasl_ssl"}, "sasl.mechanism is 'GSSAPI', which streams does not know; use PLAIN,"),
        ({"ssl.keystore.location": "x.p12"}, "streams cannot use ssl.keystore.location; it knows"),
        ({"sasl.kerberos.keytab": "x"}, "streams cannot use sasl.kerberos.keytab"),
        ({"enable.sasl.oauthbearer.unsecure.jwt": "true"}, "streams cannot use enable.sasl.oauthbearer.unsecure.jwt"),
        (OAUTH | {"sasl.oauthbearer.method": "default"}, "set sasl.oauthbearer.method to oidc"),
        (OAUTH | {"sasl.oauthbearer.client.secret": ""}, "needs sasl.oauthbearer.client.secret"),
    ],
)
def test_what_not_every_client_can_do_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=r"^kafka\.properties: ") as error:
        Login.of(KafkaSettings(properties=given), "streams")
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["ssl.ca.location", "ssl.certificate.location"])
def test_a_certificate_that_is_not_there_is_a_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=name):
        Login.of(KafkaSettings(properties={"security.protocol": "ssl", name: f"{tmp_path}/none.pem"}), "streams").tls()


def test_javas_tools_are_told_the_same(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    said = client_properties(
        login(
            security_protocol="sasl_ssl",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username="me",
            sasl_password='a"b\\c',
            ssl_ca_location=str(ca),
        )
    )
    assert said.splitlines() == [
        "security.protocol=SASL_SSL",
        "ssl.truststore.type=PEM",
        "ssl.truststore.certificates=-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n",
        "sasl.mechanism=SCRAM-SHA-512",
        # twice: as a quoted word of JAAS, and as a value of a file of properties
        (
            "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required "
            'username="me" password="a\\\\"b\\\\\\\\c";'
        ),
    ]
    oauth = Login.of(KafkaSettings(properties=OAUTH | {"sasl.oauthbearer.scope": "kafka"}), "kafka-tool")
    assert 'clientSecret="hush" scope="kafka";' in client_properties(oauth)
    assert system_properties(oauth) == ["-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=https://idp/token"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"security.protocol": "ssl", "enable.ssl.certificate.verification": "false"}, "cannot do without"),
        (OAUTH | {"https.ca.location": "x"}, "cannot use https.ca.location"),
    ],
)
def test_what_javas_tools_cannot_do_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        client_properties(Login.of(KafkaSettings(properties=given), "kafka-tool"))


def test_a_key_that_is_not_pkcs_8_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN EC PRIVATE KEY-----\n")
    given = {"security.protocol": "ssl", "ssl.key.location": f"{tmp_path}/key"}
    with pytest.raises(SettingsError, match="openssl pkcs8 -topk8"):
        client_properties(
            Login.of(KafkaSettings(properties=given | {"ssl.certificate.location": f"{tmp_path}/key"}), "kafka-tool")
        )


def test_the_documentation_names_what_is_known() -> None:
    page = (Path(__file__).parents[4] / "docs/operations.md").read_text()
    for name in KNOWN - {"sasl.mechanisms", "enable.ssl.certificate.verification"}:
        words = name.removeprefix("sasl.oauthbearer.") if name.startswith("sasl.oauthbearer.") else name
        assert words in page, name
