"""Keys, and the sealed format in which every output is stored.

`sealing` encrypts each file with its own data key (AES-256-GCM in Google Tink's streaming format)
and describes it in an envelope. `keys` loads signing, watermark and key-encryption keys;
`kms` wraps data keys with Alibaba Cloud KMS instead. Format: docs/format.md.
"""
