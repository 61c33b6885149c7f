"""The callers of the product: the function platform and the command line."""
