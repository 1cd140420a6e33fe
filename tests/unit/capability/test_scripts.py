"""Scripts as steps: what they are given, what they give, and what goes wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from perdure.capability.findings import CapabilityError
from perdure.capability.loading import open_file
from perdure.capability.requests import CallError
from perdure.capability.running import Options, Running, prepare
from perdure.capability.scripts import Processes, path_of
from perdure.model.json import Json
from tests.support.upstreams import FakeUpstream, perform

DOCUMENT = """
ikanos: 1.0.0-beta4
capability:
  consumes:
  - type: http
    namespace: shop
    baseUri: http://shop.example
    resources: {items: {path: /items, operations: {list: {method: GET}}}}
  exposes:
  - type: mcp
    namespace: tools
    port: 1
    tools:
      total:
        description: x
        inputParameters: {factor: {type: integer, description: x}}
        steps:
          items: {type: call, call: shop.list}
          sum: %s
        mappings: [{target: total, value: $.sum.total}]
        outputParameters: {total: {type: number}}
  - {type: control, port: 2, management: {scripting: {defaultLanguage: python, defaultLocation: 'file:///./code'}}}
"""
PLAIN = "{type: script, file: sum.py}"
ITEMS = [{"price": 2}, {"price": 3}]


def prepared(folder: Path, step: str, *, allow: bool = True, **files: str) -> Running:
    (folder / "code").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "code" / name.replace("_", ".")).write_text(text)
    (folder / "shop.yaml").write_text(DOCUMENT % step)
    upstream = FakeUpstream(lambda request: ITEMS)
    return prepare([folder / "shop.yaml"], Options(scripts=allow), {}, upstream)[0]


async def test_a_python_script_gets_arguments_and_earlier_steps(tmp_path: Path) -> None:
    script = "print('noise')\nresult = {'total': factor * sum(each['price'] for each in context['items'])}"
    one = prepared(tmp_path, PLAIN, sum_py=script)
    assert await perform(one, "total", factor=10) == {"total": 50}


async def test_files_that_it_depends_on_come_first_and_with_chooses(tmp_path: Path) -> None:
    step = "{type: script, file: sum.py, dependencies: [tax.py], with: {net: '{{factor}}', rows: $.items}}"
    one = prepared(
        tmp_path, step, tax_py="def gross(net): return net * 2",
        sum_py="result = {'total': gross(int(net)) + len(rows), 'saw': sorted(context)}",
    )  # fmt: skip
    assert await perform(one, "total", factor=4) == {"total": 10}


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
async def test_a_script_in_javascript(tmp_path: Path) -> None:
    step = "{type: script, language: javascript, file: sum.js}"
    text = "console.log('noise'); const result = {total: factor * items.reduce((sum, each) => sum + each.price, 0)};"
    assert await perform(prepared(tmp_path, step, sum_js=text), "total", factor=3) == {"total": 15}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1", "it assigns nothing to result"),
        ("raise ValueError('no stock')", "ValueError: no stock"),
        ("result = {1, 2}", "not JSON serializable"),
        ("import os\nresult = os.environ['HOME']", "KeyError: 'HOME'"),
    ],
)
async def test_what_goes_wrong_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(CallError, match=told) as caught:
        await perform(prepared(tmp_path, PLAIN, sum_py=text), "total", factor=1)
    assert caught.value.code == "script_failed"


async def test_a_script_that_does_not_end_is_ended(tmp_path: Path) -> None:
    one = prepared(tmp_path, PLAIN, sum_py="while True: pass")
    one.performer.scripts = Processes(str(tmp_path), timeout=0.3)
    with pytest.raises(CallError, match="it took over") as caught:
        await perform(one, "total", factor=1)
    assert caught.value.status == 504


def test_scripts_run_only_where_they_are_allowed(tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match="--allow-scripts"):
        prepared(tmp_path, PLAIN, allow=False, sum_py="result = 1")


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("{type: script, file: ../sum.py}", "bad-path"),
        ("{type: script, file: /etc/sum.py}", "bad-path"),
        ("{type: script, file: sum.py, location: 'https://x.example'}", "bad-path"),
        ("{type: script, file: sum.groovy, language: groovy}", "not-run"),
        ("{type: script}", "missing-key"),
    ],
)
def test_what_cannot_run_is_found(tmp_path: Path, step: str, code: str) -> None:
    (tmp_path / "shop.yaml").write_text(DOCUMENT % step)
    found = open_file(tmp_path / "shop.yaml").findings.all
    assert code in {each.code for each in found if each.severity == "error"}


def test_paths_stay_in_their_folder(tmp_path: Path) -> None:
    assert path_of(str(tmp_path), "file:///./code", "a/b.py") == tmp_path / "code/a/b.py"
    assert path_of(str(tmp_path), "", "b.py") == tmp_path / "b.py"
    bad: list[tuple[Json, Json]] = [("file://host/x", "a"), ("", "a/../b"), ("", ""), ("", "a b")]
    for location, file in bad:
        with pytest.raises(ValueError):
            path_of(str(tmp_path), location, file)
