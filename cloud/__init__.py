"""RAM policies and offline checks of the deployment: `python -m cloud.check`."""
