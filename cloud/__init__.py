"""What goes to the cloud besides the image, and its check: `python -m cloud.check`."""
