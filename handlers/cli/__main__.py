from __future__ import annotations

from handlers.cli.app import main

main()
