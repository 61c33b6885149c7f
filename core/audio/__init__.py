"""Audio samples, and decoding and encoding of audio files that may be hostile.

`waveform` defines mono samples and pure functions on them. `decoding` reads an untrusted recording:
`container` checks its headers, and `libsndfile` decodes it in a confined process (`sandbox`).
`stream` reads recordings too long for memory, `encoding` writes files, and `loudness` measures and
sets loudness (ITU-R BS.1770).
"""
