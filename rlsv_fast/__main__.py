"""``python -m rlsv_fast`` is the command line."""

import sys

from rlsv_fast.cli import main

sys.exit(main())
