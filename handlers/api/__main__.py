"""Starts the front function: `python -m handlers.api`."""

import sys

from handlers.api.front import main

sys.exit(main())
