"""A broker that lets in who it knows alone: TLS, SCRAM, PLAIN, OAUTHBEARER, client certificates, ACLs.

Certificates are openssl's; tokens are signed by it, and the broker looks at their signature.
"""

import base64
import contextlib
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType  # type: ignore[attr-defined]

from common import kafka
from common.address import Address
from common.settings import KafkaSettings
from deploy.local.kafka.broker import JARS, find_jars, find_java
from deploy.local.kafka.config import server_properties
from schemas.topics import topics
from tests.fix_local import REPOSITORY, free_port
from tests.waiting import HANG_SECONDS, until

PARTS = ("producer", "streams", "console")
MECHANISMS = ("SCRAM-SHA-512", "PLAIN", "OAUTHBEARER", "mTLS")
AUDIENCE = "kafka"
_ROW = re.compile(r"^\| (producer|streams|console) \| (topic|group) `([^`]+)` \| ([A-Z, ]+) \|", re.MULTILINE)


def openssl(directory: Path, *words: str, octets: bytes | None = None) -> bytes:
    done = subprocess.run(["openssl", *words], cwd=directory, input=octets, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Authority:
    """Certifies names; all its files are PEM."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ca = directory / "ca.pem"
        new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
        openssl(directory, *new, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")

    def certify(self, name: str) -> tuple[Path, Path]:
        """A certificate for CN=name and 127.0.0.1, and its key."""
        (self._directory / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\n")
        request = openssl(
            self._directory,
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", f"{name}.key"),
        )
        openssl(
            self._directory,
            *("x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-extfile", f"{name}.ext"),
            *("-out", f"{name}.pem"),
            octets=request,
        )
        return self._directory / f"{name}.pem", self._directory / f"{name}.key"


@dataclass
class TokenEndpoint:
    """Gives tokens to whom it knows, over HTTPS; each is signed by RS256."""

    directory: Path
    secrets: Mapping[str, str]
    asked: list[str] = field(default_factory=list)  # the client of each token that was given

    def __post_init__(self) -> None:
        openssl(self.directory, "genrsa", "-out", "tokens.key", "2048")
        modulus = openssl(self.directory, "rsa", "-in", "tokens.key", "-noout", "-modulus").decode().strip()
        key = {"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256", "e": "AQAB"}
        key["n"] = _base64(bytes.fromhex(modulus.removeprefix("Modulus=")))
        self.jwks = self.directory / "jwks.json"
        self.jwks.write_text(json.dumps({"keys": [key]}))

    def token(self, client: str) -> str:
        now = int(time.time())
        claims = {"sub": client, "aud": AUDIENCE, "iss": "test", "iat": now, "exp": now + 600}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1"}, claims))
        signature = openssl(self.directory, "dgst", "-sha256", "-sign", "tokens.key", octets=signed.encode())
        return f"{signed}.{_base64(signature)}"

    def answer(self, authorization: str, form: str) -> tuple[int, Any]:
        client, _, secret = base64.b64decode(authorization.partition(" ")[2]).decode().partition(":")
        if self.secrets.get(unquote(client)) != unquote(secret) or not unquote(secret):
            return 401, {"error": "invalid_client"}
        assert parse_qs(form)["grant_type"] == ["client_credentials"]
        self.asked.append(unquote(client))
        return 200, {"access_token": self.token(unquote(client)), "expires_in": 600, "token_type": "Bearer"}

    @contextlib.contextmanager
    def served(self, certificate: tuple[Path, Path]) -> Iterator[str]:
        """-> its URL."""
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, told = endpoint.answer(self.headers.get("Authorization", ""), form)
                body = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.socket = context.wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"https://127.0.0.1:{server.server_port}/token"
            finally:
                server.shutdown()
                thread.join()


def _base64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """The broker, and how one gets in."""

    directory: Path
    sasl: str  # bootstrap servers
    mutual: str  # the same of client certificates
    authority: Authority
    tokens: TokenEndpoint
    token_url: str
    secrets: Mapping[str, str]  # by user

    def bootstrap(self, mechanism: str) -> str:
        return self.mutual if mechanism == "mTLS" else self.sasl

    def properties(self, user: str, mechanism: str, *, wrong: bool = False) -> dict[str, str]:
        """kafka.properties. `wrong`: another user's secret, or certificate of another authority."""
        secret = self.directory / ("wrong.secret" if wrong else f"{user}.secret")
        given = {"security.protocol": "sasl_ssl", "ssl.ca.location": str(self.authority.ca)}
        if mechanism == "mTLS":
            certificate = self.directory / ("wrong" if wrong else "") / f"{user}.pem"
            return given | {
                "security.protocol": "ssl",
                "ssl.certificate.location": str(certificate),
                "ssl.key.location": str(certificate.with_suffix(".key")),
            }
        given["sasl.mechanism"] = mechanism
        if mechanism == "OAUTHBEARER":
            return given | {
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.client.id": user,
                "sasl.oauthbearer.client.secret": f"${{file:{secret}}}",
                "sasl.oauthbearer.token.endpoint.url": self.token_url,
                "https.ca.location": str(self.authority.ca),
            }
        return given | {"sasl.username": user, "sasl.password": f"${{file:{secret}}}"}

    def settings(self, user: str, mechanism: str = "SCRAM-SHA-512", *, wrong: bool = False) -> KafkaSettings:
        return KafkaSettings(
            bootstrap_servers=self.bootstrap(mechanism), properties=self.properties(user, mechanism, wrong=wrong)
        )

    def permit(self, user: str, resource: str, name: str, operations: list[str], *, take: bool = False) -> None:
        """An ACL for a user, by whichever way it comes in. `take`: away."""
        admin = kafka.admin(self.settings("admin"))
        principals = [f"User:{user}", f"User:CN={user}"]
        bindings = [
            AclBinding(
                ResourceType[resource.upper()],
                name.removesuffix("*"),
                ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL,
                principal,
                "*",
                AclOperation[operation],
                AclPermissionType.ALLOW,
            )
            for principal in principals
            for operation in operations
        ]
        if take:
            from confluent_kafka.admin import AclBindingFilter  # type: ignore[attr-defined]

            filters = [
                AclBindingFilter(
                    each.restype,
                    each.name,
                    each.resource_pattern_type,
                    each.principal,
                    each.host,
                    each.operation,
                    each.permission_type,
                )
                for each in bindings
            ]
            asked: Any = admin.delete_acls(filters)
        else:
            asked = admin.create_acls(bindings)
        for answer in asked.values():
            answer.result(HANG_SECONDS)


def documented_permissions() -> list[tuple[str, str, str, list[str]]]:
    """(part, kind of resource, name, operations) of docs/operations.md."""
    found = _ROW.findall((REPOSITORY / "docs/operations.md").read_text())
    return [(part, kind, name, operations.split(", ")) for part, kind, name, operations in found]


@contextlib.contextmanager
def secured_kafka(directory: Path) -> Iterator[Secured]:
    """With our topics and the permissions that docs/operations.md lists, and no others."""
    authority, elsewhere = Authority(directory), directory / "wrong"
    elsewhere.mkdir()
    other = Authority(elsewhere)
    secrets = {user: f"s3cret-of-{user}-/+%:" for user in (*PARTS, "admin")}
    for user, secret in secrets.items():
        (directory / f"{user}.secret").write_text(secret + "\n")
        authority.certify(user)
        other.certify(user)
    (directory / "wrong.secret").write_text("s3cret-of-nobody")
    tokens = TokenEndpoint(directory, secrets)
    sasl, mutual, controller = (free_port() for _ in range(3))
    certificate, key = authority.certify("broker")
    (directory / "broker-all.pem").write_text(key.read_text() + certificate.read_text())
    with tokens.served((certificate, key)) as url:
        made = Secured(
            directory=directory,
            sasl=f"127.0.0.1:{sasl}",
            mutual=f"127.0.0.1:{mutual}",
            authority=authority,
            tokens=tokens,
            token_url=url,
            secrets=secrets,
        )
        properties = directory / "server.properties"
        properties.write_text(_server_properties(made, controller))
        with _broker(made, properties):
            yield made


def _server_properties(made: Secured, controller: int) -> str:
    """Those of `ayaflow kafka`, and what lets in those alone who are known; a later line wins."""
    sasl, mutual = made.sasl, made.mutual
    plain = " ".join(f'user_{user}="{secret}"' for user, secret in made.secrets.items())
    listener = "listener.name.sasl_ssl."
    module = "org.apache.kafka.common.security"
    values = {
        "listeners": f"SASL_SSL://{sasl},SSL://{mutual},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"SASL_SSL://{sasl},SSL://{mutual}",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:SSL",
        "inter.broker.listener.name": "SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": f"{made.directory}/broker-all.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(made.authority.ca),
        "ssl.client.auth": "required",
        f"{listener}ssl.client.auth": "none",
        f"{listener}sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN,OAUTHBEARER",
        f"{listener}scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        f"{listener}plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule required {plain};",
        f"{listener}oauthbearer.sasl.jaas.config": f"{module}.oauthbearer.OAuthBearerLoginModule required;",
        f"{listener}oauthbearer.sasl.server.callback.handler.class": f"{module}.oauthbearer."
        "OAuthBearerValidatorCallbackHandler",
        "sasl.oauthbearer.jwks.endpoint.url": made.tokens.jwks.as_uri(),
        "sasl.oauthbearer.expected.audience": AUDIENCE,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin;User:CN=broker",
    }
    base = server_properties(
        listener=Address.parse(sasl, "sasl"), controller_port=controller, data=made.directory / "kafka", partitions=1
    )
    return base + "".join(f"{name}={value.replace(chr(92), chr(92) * 2)}\n" for name, value in values.items())


@contextlib.contextmanager
def _broker(made: Secured, properties: Path) -> Iterator[None]:
    log4j = REPOSITORY / "deploy/local/kafka/log4j2.properties"
    (made.directory / "logs").mkdir()
    java = [
        find_java(),
        *(
            "-Xmx256m",
            "-Xms64m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            f"-Dayaflow.logs={made.directory}/logs",
        ),
        f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={made.tokens.jwks.as_uri()}",
        f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.files={made.tokens.jwks}",
        *(f"-Dlog4j2.configurationFile={log4j}", "-cp", find_jars(JARS)),
    ]
    users = [
        word
        for user, secret in made.secrets.items()
        for word in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={secret}]")
    ]
    cluster = base64.urlsafe_b64encode(b"\0" * 15 + b"\1").decode().rstrip("=")
    form = [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties), *users]
    done = subprocess.run(form, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    output = made.directory / "broker.out"
    with output.open("w") as sink:
        process = subprocess.Popen([*java, "kafka.Kafka", str(properties)], stdout=sink, stderr=sink)
    try:
        admin = kafka.admin(made.settings("admin"))

        def answers() -> bool:
            assert process.poll() is None, output.read_text()
            with contextlib.suppress(Exception):
                return bool(admin.list_topics(timeout=1).brokers)
            return False

        until(answers, lambda: (kafka.reason(OSError("none"), admin), output.read_text()[-3000:]))
        kafka.create_missing(made.settings("admin"), topics(KafkaSettings(partitions=1)), timeout_seconds=HANG_SECONDS)
        for permission in documented_permissions():
            made.permit(*permission)
        yield
    finally:
        process.terminate()
        process.wait(HANG_SECONDS)


@contextlib.contextmanager
def behind_tls(url: str, certificate: tuple[Path, Path]) -> Iterator[str]:
    """Something that speaks TLS before a server that does not -> its URL."""
    host, _, port = url.removeprefix("http://").partition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    ended = threading.Event()

    def carry(read: Callable[[int], bytes], write: Callable[[bytes], object], done: Callable[[], object]) -> None:
        with contextlib.suppress(OSError):
            while octets := read(1 << 16):
                write(octets)
        with contextlib.suppress(OSError):
            done()

    def serve(raw: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            context.wrap_socket(raw, server_side=True) as outside,
            socket.create_connection((host, int(port))) as inside,
        ):
            back = threading.Thread(
                target=carry,
                args=(inside.recv, outside.sendall, lambda: outside.shutdown(socket.SHUT_RDWR)),
                daemon=True,
            )
            back.start()
            carry(outside.recv, inside.sendall, lambda: inside.shutdown(socket.SHUT_WR))
            back.join()

    def accept() -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                raw, _ = listener.accept()
                threading.Thread(target=serve, args=(raw,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()
