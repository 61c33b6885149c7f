"""The result of a job: a signed document that reports on every voice and item.

`document` is the result as a whole, `item_result` its elements, and `schemas` the JSON Schemas of
the public documents. Format: docs/format.md.
"""
