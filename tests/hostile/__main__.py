"""`python tests/hostile`: see run.py."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from hostile.run import main  # noqa: E402

sys.exit(main())
