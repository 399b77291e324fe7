"""Run the tests without processes under the other supported Pythons, where they are installed.

python tools/pythons.py [3.12 3.13]

Each gets an environment of its own, .venv-3.12 and so on, with the same pinned packages; they run
side by side. Exit code 1 where one fails. Runs under the system's Python.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))


def candidates(version: str) -> Iterator[str]:
    """Where an interpreter of this version may lie."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield str(Path(folder) / f"python{version}")
    yield from map(str, sorted(PYENV.glob(f"versions/{version}*/bin/python"), reverse=True))


def interpreter(version: str) -> str | None:
    """One that runs and is of this version: a shim may answer that it is not."""
    for path in candidates(version):
        if shutil.which(path):
            asked = subprocess.run(
                [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=False,
            )
            if asked.returncode == 0 and asked.stdout.strip() == version:
                return path
    return None


def pins() -> list[str]:
    """What the tests need beside the application."""
    lines = (ROOT / "requirements-dev.txt").read_text().split()
    return [line for line in lines if line.startswith(("pytest==", "hypothesis=="))]


def environment(base: str, version: str) -> str:
    """The interpreter of this version's environment, made and filled where it is not."""
    wanted = "".join((ROOT / n).read_text() for n in ("requirements.txt", "constraints.txt"))
    return filled(base, f".venv-{version}", ["-r", "requirements.txt", *pins()], wanted)


def filled(base: str, name: str, what: list[str], wanted: str) -> str:
    """The interpreter of an environment that holds `what`; made anew where its stamp is not
    `wanted`. RuntimeError says which step failed."""
    folder = ROOT / name
    python, stamp = str(folder / "bin" / "python"), folder / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    uv = shutil.which("uv")
    if uv:
        steps = [
            [uv, "venv", "--python", base, str(folder)],
            [uv, "pip", "install", "--python", python, *what],
        ]
    else:
        steps = [
            [base, "-m", "venv", str(folder)],
            [python, "-m", "pip", "install", "--quiet", "--no-compile", *what],
        ]
    for step in steps:
        done = subprocess.run(step, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"`{' '.join(step)}` failed:\n{done.stdout}{done.stderr}")
    stamp.write_text(wanted)
    return python


def tested(version: str) -> tuple[str, bool]:
    """What happened under this version, and whether it may stay so."""
    base = interpreter(version)
    if base is None:
        return "is not installed: skipped", True
    began = time.monotonic()
    try:
        python = environment(base, version)
    except RuntimeError as error:
        return str(error), False
    ready = time.monotonic()
    done = subprocess.run(
        [python, "-m", "pytest", "--fast", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    lines = done.stdout.rstrip().splitlines()
    took = f"{ready - began:.0f} s installing, {time.monotonic() - ready:.0f} s testing"
    shown = lines[-1:] if done.returncode == 0 else lines[-60:]
    return "\n".join([took, *shown]), done.returncode == 0


def main(asked: list[str]) -> int:
    """Exit code 1 where a version fails."""
    own = "{}.{}".format(*sys.version_info)
    versions = asked or [version for version in VERSIONS if version != own]
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(tested, versions))
    for version, (text, well) in zip(versions, results, strict=True):
        print(f"Python {version}: {'' if well else 'FAILED, '}{text}", flush=True)
    return 0 if all(well for _, well in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
