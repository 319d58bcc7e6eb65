"""Print what an extra of this package needs, a requirement a line: `python extra.py test`.

`pip install -e ".[test]"` would compile all kernels once more for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

if __name__ == "__main__":
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    print("\n".join(extras[sys.argv[1]]))
