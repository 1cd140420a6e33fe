"""What is made from documents: skills, OpenAPI documents, the server's own capability, and what the commands print."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import httpx2
import pytest
import yaml
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator
from skills_ref import validate

from perdure.capability.catalog import CatalogDoor
from perdure.capability.control import ControlDoor
from perdure.capability.generating import VERSIONS, generate
from perdure.capability.loading import open_file
from perdure.capability.openapi import document
from perdure.capability.requests import CallError
from perdure.capability.rest import RestDoor
from perdure.capability.running import Options, clashes, prepare
from perdure.capability.skills import skill, slug
from perdure.capability.source import parse
from perdure.cli import main
from perdure.model.json import Json, decode
from tests.support.capability_schema import published
from tests.support.upstreams import FOLDER, FakeUpstream, faces, opened, perform, running

FILES = sorted(FOLDER / name for name in ("events-api.yaml", "workflow.yaml", "fleet.yaml"))


def front(text: str) -> dict[str, Json]:
    """The front matter of a SKILL.md, checked as the format has it."""
    _, matter, body = text.split("---\n", 2)
    fields: dict[str, Json] = yaml.safe_load(matter)
    assert set(fields) <= {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", fields["name"]) and len(fields["name"]) <= 64
    assert 0 < len(fields["description"]) <= 1024
    assert all(isinstance(value, str) for value in fields.get("metadata", {}).values())
    assert len(body.splitlines()) < 500
    return fields


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_skill_of_every_document_is_well_formed(file: Path) -> None:
    made = skill(open_file(file).capability, file.read_text(encoding="utf-8"))
    fields = front(made["SKILL.md"].decode())
    assert fields["name"] == slug(open_file(file).capability.title)
    assert made["assets/capability.yaml"] == file.read_bytes()
    assert made == skill(open_file(file).capability, file.read_text(encoding="utf-8"))
    served = skill(open_file(file).capability)
    assert set(served) == {"SKILL.md", "references/tools.md"}
    assert front(served["SKILL.md"].decode())["name"] == fields["name"]
    for link in re.findall(r"\]\(([^)]+)\)", made["SKILL.md"].decode()):
        assert link in made
    compile(made["scripts/call.py"], "call.py", "exec")
    tools = made["references/tools.md"].decode()
    for exposure in open_file(file).capability.exposures:
        for tool in exposure.tools:
            assert f"## {tool.action.name}\n" in tools


def test_the_servers_own_document_has_no_findings() -> None:
    made = opened(generate("http://127.0.0.1:8288"))
    made.bind({}, {}, needed=False)
    assert made.findings.all == []
    tools = [each.action.name for one in made.capability.exposures for each in one.tools]
    assert {"list-runs", "send-event", "cancel-run", "post-events", "get-event"} <= set(tools)


def test_openapi_tells_routes_arguments_and_credentials() -> None:
    made = document(open_file(FOLDER / "fleet.yaml").capability, "https://fleet.test")
    assert made["openapi"] == "3.1.0" and made["servers"] == [{"url": "https://fleet.test"}]
    listed = made["paths"]["/ships"]["get"]
    assert listed["parameters"] == [
        {
            "name": "status", "in": "query", "required": False, "description": "The status.",
            "schema": {"type": "string", "pattern": "^[a-z]+$"},
        }
    ]  # fmt: skip
    items = listed["responses"]["200"]["content"]["application/json"]["schema"]["items"]
    assert items["properties"]["imo"] == {"type": "string"}
    assert listed["security"] == [{"fleet-api": []}]
    assert made["components"]["securitySchemes"] == {"fleet-api": {"type": "http", "scheme": "bearer"}}
    body = made["paths"]["/voyages"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"ship", "crewIds", "cargoIds"}
    assert made["paths"]["/ships/{imo}/crew"]["get"]["parameters"][0]["required"] is True


async def test_skills_are_read_and_downloaded() -> None:
    one = running("fleet.yaml", FakeUpstream(lambda request: {}))
    door = CatalogDoor(faces(one, "skill"))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(door), base_url="http://localhost") as http:
        (listed,) = (await http.get("/skills")).json()["skills"]
        assert listed["tools"][0]["invocationRef"] == {
            "targetNamespace": "fleet-tools", "action": "ship-with-crew", "mode": "mcp",
        }  # fmt: skip
        assert (await http.get("/skills/fleet-ops")).json() == listed
        packed = zipfile.ZipFile(io.BytesIO((await http.get("/skills/fleet-ops/download")).content))
        assert packed.namelist() == ["fleet-ops/SKILL.md"]
        text = (await http.get("/skills/fleet-ops/contents/SKILL.md")).text
        assert front(text)["license"] == "Apache-2.0"
        for path in ("/skills/none", "/skills/fleet-ops/contents/..%2f..%2fsecrets.yaml", "/other"):
            assert (await http.get(path)).status_code == 404
        assert (await http.post("/skills")).status_code == 405


async def test_control_counts_what_is_done() -> None:
    text = (
        "naftiko: 1.0.0\ninfo: {label: Shop}\ncapability:\n  exposes:\n  - type: control\n    port: 1\n"
        "    management: {reload: true, logs: false}\n    observability: {traces: {enabled: true}}\n"
        "  - {type: mcp, port: 2, namespace: m, tools: [{name: t, description: T.,"
        " inputParameters: [{name: x, type: string, description: X.}],"
        " outputParameters: [{type: string, value: '{{x}}'}]}]}\n"
    )
    document = opened(text)
    assert [(each.line, each.code) for each in document.findings.all] == [(7, "not-used"), (8, "not-used")]
    one = running(document, FakeUpstream(lambda request: {}))
    await perform(one, "t", x="y")
    with pytest.raises(CallError):
        await perform(one, "t")
    door = ControlDoor(faces(one, "control"))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(door), base_url="http://localhost") as http:
        lines = (await http.get("/metrics")).text.splitlines()
    assert lines[:2] == [
        'capability_operations_total{capability="Shop",operation="t",status="200"} 1',
        'capability_operations_total{capability="Shop",operation="t",status="400"} 1',
    ]
    assert lines[2].startswith('capability_operation_seconds_sum{capability="Shop",operation="t"} 0.')


async def test_control_tells_health_and_status() -> None:
    text = (
        "naftiko: 1.0.0\ncapability:\n  exposes:\n  - {type: control, port: 1, management: {info: true}}\n"
        "  - type: mcp\n    port: 2\n    namespace: m\n    tools:\n"
        "    - {name: t, description: T., outputParameters: [{type: string, value: x}]}\n"
    )
    door = ControlDoor(faces(running(opened(text), FakeUpstream(lambda request: {})), "control"))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(door), base_url="http://localhost") as http:
        assert (await http.get("/health/ready")).json() == {"status": "UP"}
        assert (await http.get("/status")).json()["capabilities"][0]["operations"] == {"t": []}
        assert (await http.get("/metrics")).text == ""
        assert (await http.get("/traces")).status_code == 404


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["capability", *arguments])


def test_validate_tells_findings_and_fails_for_errors(tmp_path: Path) -> None:
    fine = call("validate", str(FOLDER / "workflow.yaml"))
    assert fine.exit_code == 0 and "0 errors" in fine.stdout
    assert "workflow.yaml:11: warning: nothing uses WORKFLOW_EVENT_KEY" in fine.stdout
    assert call("validate", "--strict", str(FOLDER / "workflow.yaml")).exit_code == 1
    bad = tmp_path / "bad.yaml"
    bad.write_text("naftiko: 1.0.0\ncapabilty: {}\n")
    told = call("validate", "--json", str(bad))
    assert told.exit_code == 1
    assert {each["code"] for each in decode(told.stdout)} >= {"unknown-key", "no-capability"}
    assert "cannot read" in call("validate", str(tmp_path / "none.yaml")).stderr


def test_inspect_shows_routes_tools_and_upstream_calls() -> None:
    shown = call("inspect", str(FOLDER / "fleet.yaml")).stdout
    assert "GET /ships/{{imo}}/crew  imo*" in shown
    assert "GET /ships/{{imo_number}} then GET /crew" in shown
    (found,) = decode(call("inspect", "--json", str(FOLDER / "fleet.yaml")).stdout)
    assert (found["root"], found["version"]) == ("ikanos", "1.0.0-beta4")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_servers_document_is_valid_by_the_published_schema(version: str) -> None:
    made = parse(generate("http://127.0.0.1:8288", version=version)).data
    check = Draft202012Validator(published(version))
    assert [each.message for each in check.iter_errors(made)] == []
    made["capability"]["exposes"][1]["tools"]["health"]["hint"] = {}
    assert list(check.iter_errors(made)), "the schema takes anything"
    assert call("generate", "--format", "1.0.0-alpha2").exit_code == 2


def test_generate_export_skill_and_export_openapi(tmp_path: Path) -> None:
    assert call("generate", "-o", str(tmp_path / "own.yaml")).exit_code == 0
    assert call("validate", "--strict", str(tmp_path / "own.yaml")).exit_code == 0
    assert call("export-skill", str(tmp_path / "own.yaml"), "-o", str(tmp_path)).stdout.endswith("7 files\n")
    assert (tmp_path / "perdure/SKILL.md").exists()
    again = call("export-skill", "-o", str(tmp_path))
    assert again.exit_code == 1 and "--force" in again.stderr
    assert call("export-skill", "-o", str(tmp_path), "--force", "--name", "own").exit_code == 0
    assert "/v1/events" in decode(call("export-openapi", str(tmp_path / "own.yaml")).stdout)["paths"]


@pytest.mark.parametrize("file", [None, *FILES], ids=lambda file: file.name if file else "the server's own")
def test_the_reference_validator_takes_every_skill(file: Path | None, tmp_path: Path) -> None:
    assert call("export-skill", *([str(file)] if file else []), "-o", str(tmp_path)).exit_code == 0
    (folder,) = tmp_path.iterdir()
    assert validate(folder) == []
    text = (folder / "SKILL.md").read_text()
    (folder / "SKILL.md").write_text(text.replace("name: ", "name: No ", 1))
    assert validate(folder), "the validator takes anything"


def test_run_refuses_what_it_cannot_run(tmp_path: Path) -> None:
    missing = call("run", str(FOLDER / "workflow.yaml"))
    assert missing.exit_code == 1
    assert "WORKFLOW_SIGNING_KEY has no value: set WORKFLOW_SIGNING_KEY in the environment" in missing.stderr
    strict = call("run", "--strict", "--set", "WORKFLOW_SIGNING_KEY=x", str(FOLDER / "workflow.yaml"))
    assert strict.exit_code == 1 and "single-brace" in strict.stderr
    for wrong, told in {
        "--base-uri=workflow=ftp://x": "write NS=https://HOST",
        "--base-uri=workflow=http://me:sesame@x": "credentials do not belong into an address",
        "--base-uri=nobody=http://x": "nothing is consumed under nobody",
        "--set=X": "write NAME=VALUE",
        "--set=OTHER=1": "--set OTHER: no document has that variable",
    }.items():
        assert told in call("run", wrong, str(FOLDER / "workflow.yaml")).stderr


async def test_adapters_with_the_same_routes_share_a_port(tmp_path: Path) -> None:
    text = (FOLDER / "workflow.yaml").read_text()
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text(text.replace("workflow-rest", "other"))
    options = Options(given={"WORKFLOW_SIGNING_KEY": "x"})
    both = prepare([tmp_path / "a.yaml", tmp_path / "b.yaml"], options, {}, FakeUpstream(lambda request: [request.url]))
    assert clashes(both, options)[1] == (
        "GET /v1/workflows/functions is workflow-rest's; the other is at /other/v1/workflows/functions"
    )
    door = RestDoor([*faces(both[0], "rest"), *faces(both[1], "rest")])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(door), base_url="http://localhost") as http:
        for path in (
            "/v1/workflows/runs/a%2Fb",
            "/other/v1/workflows/runs/a%2Fb",
            "/workflow-rest/v1/workflows/runs/a%2Fb",
        ):
            assert (await http.get(path)).json()[0].endswith("/v2/runs/a%2Fb")
        assert (await http.get("/nobody/v1/workflows/functions")).status_code == 404
