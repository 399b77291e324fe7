"""Run the clients of Binance that people have against the local exchange (test_clients*.py).

python tools/clients.py [pytest arguments]

They get an environment of their own, .venv-clients: some pin packages that the application pins
otherwise. Runs under the system's Python; exit code that of pytest.
"""

import subprocess
import sys

from install import interpreter
from pythons import ROOT, filled

CLIENTS = ROOT / "tests" / "support" / "requirements-clients.txt"
OURS = ("websockets==", "numpy==", "msgspec==", "pytest==")  # what the exchange and its tests need


def pins() -> list[str]:
    """The versions that the application and its tests have."""
    files = (ROOT / "requirements.txt", ROOT / "requirements-dev.txt")
    lines = [line for file in files for line in file.read_text().split()]
    return [line for line in lines if line.startswith(OURS)]


def main(arguments: list[str]) -> int:
    """Make the environment where it is missing or of other versions, then test."""
    ours = pins()
    wanted = CLIENTS.read_text() + "\n".join(ours)
    try:
        python = filled(interpreter(), ".venv-clients", ["-r", str(CLIENTS), *ours], wanted)
    except RuntimeError as error:
        print(error, flush=True)
        return 1
    # Our conftest needs the whole application, which is not here.
    command = [python, "-m", "pytest", "--noconftest", "-q", "-p", "no:cacheprovider"]
    tests = sorted(str(path) for path in (ROOT / "tests" / "exchange").glob("test_clients*.py"))
    return subprocess.run([*command, *tests, *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
