"""What a producer asks for: a manifest, read into a job.

A manifest is one JSON document, or JSON Lines for large batches. It names voices (a reference
recording and a consent record each) and items (a text and how it is to be spoken). `fields`
declares the document, `parse` reads bytes that may be hostile, `validate` checks every field, and
`resolve` applies the defaults; what comes out is a `Job`. What is wrong with the document as a
whole is refused; what is wrong with one item fails that item alone. Format: docs/manifest.md.
"""
