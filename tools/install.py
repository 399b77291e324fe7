"""Make .venv and install a requirements file into it: with uv where present, else venv and pip.

Runs under the system's Python, before anything is installed.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VERSIONS = ((3, 11), (3, 12), (3, 13))


def interpreter() -> str:
    """A supported Python: this one, or another on the PATH."""
    if sys.version_info[:2] in VERSIONS:
        return sys.executable
    for major, minor in reversed(VERSIONS):
        found = shutil.which(f"python{major}.{minor}")
        if found:
            return found
    have = ".".join(map(str, sys.version_info[:3]))
    sys.exit(
        f"install: Python {have} is not supported: install 3.11, 3.12 or 3.13, "
        "or name one with `make PYTHON=/path/to/python run`"
    )


def step(text: str, command: list[str]) -> None:
    """Run one slow step, announced before and timed after; its output only where it fails."""
    print(f"install | {text} …", flush=True)
    start = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\ninstall: `{' '.join(command)}` failed: see above")
    print(f"install | {text}: {time.monotonic() - start:.0f} s", flush=True)


def main(requirements: str) -> None:
    """Make the environment where it is missing, then install."""
    python = str(VENV / "bin" / "python")
    uv = shutil.which("uv")
    # A half-made environment, from an interrupted attempt, is made again.
    usable = (
        Path(python).exists()
        and not subprocess.run(
            [python, "-c", "import sys"], check=False, capture_output=True
        ).returncode
    )
    if not usable:
        shutil.rmtree(VENV, ignore_errors=True)
        base = interpreter()
        step(
            "making .venv",
            [uv, "venv", "--python", base, str(VENV)] if uv else [base, "-m", "venv", str(VENV)],
        )
    if uv:
        os.environ["VIRTUAL_ENV"] = str(VENV)
        step(f"installing {requirements}", [uv, "pip", "install", "-r", requirements])
    else:
        step(
            f"installing {requirements} (a minute or two)",
            [python, "-m", "pip", "install", "--quiet", "-r", requirements],
        )
    step(
        "compiling the numerical kernels (once, half a minute)",
        [python, "-c", "from pairs.jit import warm_up; warm_up()"],
    )
    # Here and not at the start: what is installed may be read-only for whoever runs it.
    step(
        "putting the chart's script in place",
        [python, "-c", "from pairs.dashboard import chart; chart.provide_script()"],
    )


if __name__ == "__main__":
    main(sys.argv[1])
