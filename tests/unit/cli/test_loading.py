"""Apps by name: every way to find one, every way to fail, and what a reload forgets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from perdure.cli.loading import LoadError, load_app, load_apps
from perdure.cli.reloading import purge

APP = 'from perdure import App\napp = App("shop")\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    purge([tmp_path.resolve()])


@pytest.mark.parametrize(
    "target", ["mod_a:app", "mod_a", "mod_a.py:app", "mod_a.py", "pkg_a.inner:app", "pkg_a/inner.py:app"]
)
def test_an_app_is_found(folder: Path, target: str) -> None:
    (folder / "mod_a.py").write_text(APP)
    (folder / "pkg_a").mkdir()
    (folder / "pkg_a" / "__init__.py").write_text("")
    (folder / "pkg_a" / "inner.py").write_text(APP)
    assert load_app(target).id == "shop"


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("", "missing_mod:app", "there is no module 'missing_mod' in "),
        ("", "missing/file.py:app", "there is no file missing/file.py"),
        ("", "not a name:app", "'not a name' is not the name of a module"),
        ("x = 1", "mod_b:app", "the module has no 'app'"),
        (APP, "mod_b:ap", "the module has no 'ap'; did you mean 'app'?"),
        ("app = 5", "mod_b:app", "'app' is not a perdure.App but int"),
        ("x = 1", "mod_b", "the module has no app; make one"),
        (APP + 'other = App("two")', "mod_b", "the module has several apps; name one: app, other"),
        ("import missing_thing", "mod_b:app", "imports another one that is not there\n"),
        ("raise SystemExit(3)", "mod_b:app", "the module fails when it is imported"),
        ("def f(:", "mod_b:app", "SyntaxError"),
    ],
)
def test_what_cannot_be_loaded_says_why(folder: Path, source: str, target: str, message: str) -> None:
    (folder / "mod_b.py").write_text(source)
    with pytest.raises(LoadError) as caught:
        load_app(target)
    assert caught.value.message.startswith(f"{target}: ") and message in caught.value.message


def test_a_failing_module_is_shown_with_the_users_frames_only(folder: Path) -> None:
    (folder / "mod_c.py").write_text("def go():\n    1 / 0\ngo()\n")
    with pytest.raises(click.ClickException) as caught:
        load_app("mod_c:app")
    lines = caught.value.message.splitlines()
    assert lines[0] == "mod_c:app: the module fails when it is imported"
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert sum("File" in line for line in lines) == 2 and "importlib" not in caught.value.message


def test_a_wrong_configuration_names_its_fault(folder: Path) -> None:
    (folder / "mod_d.py").write_text(APP + '@app.function("f", retries=99)\ndef f(ctx): ...\n')
    with pytest.raises(LoadError, match="retries: must be at most 20, got 99"):
        load_app("mod_d:app")


def test_two_apps_of_one_id_are_refused(folder: Path) -> None:
    (folder / "mod_e.py").write_text(APP)
    (folder / "mod_f.py").write_text(APP)
    with pytest.raises(LoadError, match="another app with the id 'shop' is served already"):
        load_apps(("mod_e:app", "mod_f:app"))


def test_a_purge_forgets_the_users_modules_and_no_others(folder: Path) -> None:
    (folder / "mod_g.py").write_text("import mod_h\n" + APP)
    (folder / "mod_h.py").write_text("")
    load_app("mod_g:app")
    forgotten = purge([folder.resolve()])
    assert set(forgotten) == {"mod_g", "mod_h"}
    assert "mod_g" not in sys.modules and "perdure" in sys.modules and "json" in sys.modules
