"""The files of deploy/: what they name exists, they agree with each other, and what they compose runs as processes."""

from __future__ import annotations

import json
import re
import signal
import time
import tomllib
from asyncio import sleep, to_thread
from pathlib import Path

import click
import httpx2
import pytest
import yaml
from click.testing import CliRunner

from perdure.cli import main
from perdure.client import Client
from perdure.engine.views import AgentHealth, Health
from perdure.model.json import Json
from perdure.server.metrics import Here, Metrics
from tests.support.dev_server import DevServer
from tests.support.postgres import PostgresServer
from tests.support.valkey import ValkeyServer

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: Json = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVERS: dict[str, Json] = {name: COMPOSE["services"][name] for name in ("perdure-1", "perdure-2")}
MANIFESTS: dict[str, Json] = {
    document["kind"]: document
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
}
POD: Json = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
CONTAINER: Json = POD["containers"][0]
KEYS = {"PERDURE_EVENT_KEY": "orders-4f9c2b", "PERDURE_SIGNING_KEY": "signkey-prod-" + "0123456789abcdef" * 4}
_HERE = Here("node", (0, 0), 0)
_NOTHING = Health({}, {}, [], [], {}, [], AgentHealth(0, 0, []))
SIZE = {"": 1, "s": 1, "m": 60}

APP = """
from perdure import App, Context, step

app = App("shop")

@app.function("slow", trigger="t/slow")
async def slow(ctx: Context) -> int:
    for n in range(3):
        await step.run(f"s{n}", lambda: n)
        await step.sleep(f"nap{n}", "1s")
    return 3
"""


def image_environment() -> dict[str, str]:
    return dict(re.findall(r"\b(PERDURE_\w+)=(\S+)", DOCKERFILE))


def options_of(arguments: list[str]) -> dict[str, Json]:
    """What a command line of the image means; raises what the command line says against it."""
    assert 'ENTRYPOINT ["perdure"]' in DOCKERFILE
    command = main.get_command(click.Context(main), arguments[0])
    assert command is not None
    return command.make_context(arguments[0], arguments[1:]).params


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)([sm]?)", str(text)).groups()  # type: ignore[union-attr]
    return float(number) * SIZE[unit]


def test_every_command_line_is_one_that_perdure_takes() -> None:
    (started,) = re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)
    for arguments in (json.loads(started), CONTAINER["args"], *(server["command"] for server in SERVERS.values())):
        assert arguments[0] == "start" and options_of(arguments)


def test_every_variable_is_one_that_the_server_reads() -> None:
    command = main.get_command(click.Context(main), "start")
    assert command is not None
    known = {"PERDURE_EVENT_KEY", "PERDURE_SIGNING_KEY"}
    for option in command.params:
        names = option.envvar or ()
        known.update([names] if isinstance(names, str) else names)
    made = {line.partition("=")[0] for line in CliRunner().invoke(main, ["keys"]).output.splitlines()}
    named = {*image_environment(), *MANIFESTS["Secret"]["stringData"], *made}
    for server in SERVERS.values():
        named |= server["environment"].keys()
    assert {name for name in named if name.startswith("PERDURE_")} <= known


def test_ports_and_probes_are_those_of_the_server() -> None:
    port = int(image_environment()["PERDURE_PORT"])
    options = options_of(CONTAINER["args"])
    assert (options["host"], options["port"]) == (image_environment()["PERDURE_HOST"], port) == ("0.0.0.0", port)
    assert f"EXPOSE {port}" in DOCKERFILE
    assert CONTAINER["ports"] == [{"name": "http", "containerPort": port}]
    assert MANIFESTS["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    assert CONTAINER["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": "http"}
    assert CONTAINER["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": "http"}
    for server in SERVERS.values():
        assert server["ports"][0].endswith(f":{port}")
        assert f":{port}/health/ready" in " ".join(server["healthcheck"]["test"])


def test_there_is_time_to_stop() -> None:
    needed = 5 + 10 + 1
    """Requests, steps, and what users' code takes (seconds)."""
    pause = float(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] > pause + needed
    for server in SERVERS.values():
        assert seconds(server["stop_grace_period"]) > options_of(server["command"])["drain"] + needed


def test_nothing_runs_as_root() -> None:
    (uid,) = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    assert f"useradd --uid {uid} " in DOCKERFILE and int(uid) > 0
    assert POD["securityContext"]["runAsUser"] == int(uid) and POD["securityContext"]["runAsNonRoot"]
    folders = {mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert folders == set(SERVERS["perdure-1"]["tmpfs"]), "what may be written while the rest is read-only"


def test_the_manifests_mean_each_other() -> None:
    assert MANIFESTS.keys() == {"Deployment", "Service", "Secret", "PodDisruptionBudget"}
    labels = MANIFESTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert MANIFESTS["Service"]["spec"]["selector"] == labels
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert MANIFESTS[kind]["spec"]["selector"]["matchLabels"] == labels
    assert CONTAINER["envFrom"] == [{"secretRef": {"name": MANIFESTS["Secret"]["metadata"]["name"]}}]
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}


def test_the_metrics_to_watch_are_metrics() -> None:
    exposed = {line.split()[2] for line in Metrics().expose(_NOTHING, _HERE, 0).decode().splitlines() if line[0] == "#"}
    watched = re.findall(r"`(perdure_[a-z_]+)", (DEPLOY.parent / "docs" / "deploying.md").read_text())
    assert len(watched) > 6 and set(watched) <= exposed
    states = re.findall(r'`perdure_(\w+)\{state="(\w+)"', (DEPLOY.parent / "docs" / "deploying.md").read_text())
    text = Metrics().expose(_NOTHING, _HERE, 0).decode()
    for name, state in states:
        assert f'perdure_{name}{{state="{state}"}} 0.0' in text


def test_what_the_image_is_made_of_exists_and_is_not_ignored() -> None:
    allowed = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    lines = re.findall(r"^COPY ((?!--from).+)$", DOCKERFILE, re.MULTILINE)
    copied = [name for line in lines for name in line.split()[:-1]]
    for name in copied:
        assert (DEPLOY.parent / name).exists(), name
        assert any(Path(name).match(pattern) for pattern in allowed), name
    # What the wheel is built of.
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
    wheel: list[str] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    assert {path.split("/")[0] for path in wheel} | needed <= set(copied)
    for server in SERVERS.values():
        assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).is_file()


def test_the_placeholders_of_the_secret_start_no_server() -> None:
    values: dict[str, str] = MANIFESTS["Secret"]["stringData"]
    result = CliRunner().invoke(main, ["start", "--port", "0"], env=values)
    assert result.exit_code == 2 and "PERDURE_SIGNING_KEY is not valid" in result.output


@pytest.mark.slow
async def test_the_composition_as_processes(
    tmp_path: Path, postgres_server: PostgresServer, valkey_server: ValkeyServer
) -> None:
    """Both servers with their arguments and variables, but for ports and an app; one stops in the middle."""
    url = postgres_server.new_database()
    (tmp_path / "composed.py").write_text(APP)

    def start(name: str) -> DevServer:
        arguments = SERVERS[name]["command"]
        variables = {**image_environment(), **SERVERS[name]["environment"], **KEYS}
        assert variables["PERDURE_DB"].startswith("postgresql://perdure:$")
        variables |= {"PERDURE_DB": url, "PERDURE_HOST": "127.0.0.1", "PERDURE_LOG_FORMAT": "text"}
        assert variables["PERDURE_BUS"] == "redis://valkey" and "valkey" in COMPOSE["services"]
        variables["PERDURE_BUS"] = valkey_server.url
        return DevServer(tmp_path, "composed:app", *arguments[1:], command=arguments[0], environment=variables)

    with start("perdure-1") as first, start("perdure-2") as second:
        async with clients(first) as one, clients(second) as two, httpx2.AsyncClient() as anybody:
            for server in (first, second):
                assert (await anybody.get(f"{server.url}/health/ready")).status_code == 200
            events = await one.send([{"name": "t/slow"} for _ in range(10)])
            assert all([await two.runs_of_event(event) for event in events]), "what one took the other knows"
            begun = time.monotonic()
            first.send_signal(signal.SIGTERM)
            while (await anybody.get(f"{first.url}/health/ready")).status_code == 200:
                assert time.monotonic() - begun < 2
            # It is not ready any more, and goes on for who has not heard of it.
            assert (await anybody.get(f"{first.url}/health/live")).status_code == 200
            events += await one.send([{"name": "t/slow"} for _ in range(5)])
            assert (await anybody.get(f"{second.url}/health/ready")).status_code == 200
            assert await to_thread(first.wait) == 0
            drain = options_of(SERVERS["perdure-1"]["command"])["drain"]
            grace = seconds(SERVERS["perdure-1"]["stop_grace_period"])
            assert drain <= time.monotonic() - begun < grace
            for event in events:
                (run,) = await two.runs_of_event(event)
                while (await two.get_run(run)).status != "COMPLETED":
                    assert time.monotonic() - begun < grace
                    await sleep(0.1)
            assert second.stop() == 0


def clients(server: DevServer) -> Client:
    return Client(server.url, event_key=KEYS["PERDURE_EVENT_KEY"], signing_key=KEYS["PERDURE_SIGNING_KEY"])
