"""Takes a token and keeps it: `python -m tests.support.token_holder URL LIMIT LEASE`."""

from __future__ import annotations

import sys
import time

from handlers.server.tokens import RedisTokens

if __name__ == "__main__":
    url, limit, lease = sys.argv[1:]
    tokens = RedisTokens(url, int(limit), "tokens", lease=float(lease))
    print(tokens.acquire() is not None, flush=True)  # noqa: T201
    time.sleep(60)
