"""JSON that can be trusted: read strictly, written in one form, signed.

`strict` reads JSON from strangers and refuses what two programs could read differently. `canonical`
writes the only byte form that RFC 8785 allows. `signed` puts an Ed25519 signature into a document
and verifies it. `violation` says in plain words where a value does not fit its type.
"""
