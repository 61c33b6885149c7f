"""What we answer: the signed result of a job, with what became of every voice and item.

`document` is the result as a whole, `item_result` its pieces, and `schemas` the JSON Schemas of the
documents that others read. Format: docs/format.md.
"""
