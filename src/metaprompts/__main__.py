"""``python -m metaprompts``."""

import sys

from metaprompts.cli import main

sys.exit(main())
