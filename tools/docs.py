"""Build the documentation as a site, under site/.

python tools/docs.py [arguments of mkdocs build]

In an environment of its own, .venv-docs: the docstrings are read, not imported, and nothing of the
application is needed. Runs under the system's Python; exit code that of mkdocs, which ends with 1
at any warning.
"""

import subprocess
import sys

from install import interpreter
from pythons import ROOT, filled

NEEDED = ROOT / "requirements-docs.txt"


def main(arguments: list[str]) -> int:
    """Make the environment where it is missing or of other versions, then build."""
    try:
        python = filled(interpreter(), ".venv-docs", ["-r", str(NEEDED)], NEEDED.read_text())
    except RuntimeError as error:
        print(error, flush=True)
        return 1
    return subprocess.run(
        [python, "-m", "mkdocs", "build", *arguments], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
