"""The container server that Function Compute calls over HTTP: `python -m handlers.server`."""
