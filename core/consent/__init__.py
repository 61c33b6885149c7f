"""Consent records: who allowed which recording to become a voice, for what, and until when.

No voice is cloned without a record that names the SHA-256 of its recording, unless the operator has
set the policy to `optional`. Legal background and fields: docs/consent.md.
"""
