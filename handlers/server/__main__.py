from __future__ import annotations

import sys

from handlers.server.app import main

sys.exit(main())
