"""JSON documents: strict reading, one canonical form, signatures.

`strict` reads untrusted JSON and refuses what two programs could read differently. `canonical`
writes the one byte form that RFC 8785 defines. `signed` adds an Ed25519 signature to a document and
verifies it. `violation` explains where a value does not fit its type.
"""
