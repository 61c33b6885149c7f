"""The manifest: what a producer asks for, read into a `Job`.

A manifest is one JSON document, or JSON Lines for large batches. It defines voices (a reference
recording and a consent record each) and items (a text and how to speak it). `fields` declares the
document, `parse` reads bytes that may be hostile, `validate` checks every field, and `resolve`
applies the defaults and returns a `Job`. An error in the document refuses the whole job; an error
in one item fails that item alone. Format: docs/manifest.md.
"""
