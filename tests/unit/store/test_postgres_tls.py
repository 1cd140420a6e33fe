"""PostgreSQL behind TLS: the certificate is checked as the URL asks for, on every connection that a node makes."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from perdure import App, Context, embedded, step
from perdure.model.errors import StoreError
from perdure.store.postgres import PostgresStore
from tests.support.postgres import FAST, PostgresServer
from tests.support.postgres_session import PostgresSession


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that vouches for itself, valid for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / f"{name}.crt", folder / f"{name}.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return cert, secret


class Secured:
    """A server that takes the role `app` over TLS alone. `authority` is what its certificate is checked by."""

    def __init__(self, folder: Path) -> None:
        self.authority, key = certificate(folder, "server")
        self.other_authority, _ = certificate(folder, "other")
        self.server = PostgresServer(17, settings=(*FAST, "ssl=on"))
        data = self.server.directory / "data"
        for path, name in ((self.authority, "server.crt"), (key, "server.key")):
            self.server.write(data / name, path.read_text(), mode=0o600)
        lines = "hostssl all app 127.0.0.1/32 trust\nhost all postgres 127.0.0.1/32 trust\n"
        self.server.write(data / "pg_hba.conf", lines, mode=0o600)
        self.server.start()
        name = self.server.new_database().rpartition("/")[2]
        with closing(PostgresSession(self.server.url(name))) as session:
            session.execute(f"CREATE ROLE app LOGIN; GRANT CREATE ON DATABASE {name} TO app")
        self.base = f"postgresql://app@127.0.0.1:{self.server.port}/{name}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Generator[Secured]:
    made = Secured(tmp_path_factory.mktemp("tls"))
    yield made
    made.server.remove()


async def test_a_node_works_over_tls_alone(secured: Secured) -> None:
    app = App("t")

    @app.function("f", trigger="t/f")
    async def f(ctx: Context) -> int:
        return await step.run("one", int, 1)

    async with embedded(app, db=f"{secured.base}?sslmode=verify-full&sslrootcert={secured.authority}") as node:
        assert await (await node.trigger("t-f")).result(timeout=30) == 1
        node.store.tell("everything")
        with closing(PostgresSession(secured.server.url())) as session:
            ways = session.execute(
                "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'app'"
            )
        assert len(ways) >= 2 and all(ssl in (True, "t") for (ssl,) in ways)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ("sslmode=verify-full&sslrootcert={other}", "certificate verify failed"),
        ("sslmode=disable", "no pg_hba.conf entry"),
    ],
)
async def test_a_server_that_is_not_who_it_should_be_is_refused(
    secured: Secured, parameters: str, problem: str
) -> None:
    url = f"{secured.base}?{parameters.format(other=secured.other_authority)}"
    with pytest.raises(StoreError, match=problem):
        await PostgresStore(url).open()
