"""Sound as samples, and the way in and out of audio files, which may be hostile.

`waveform` holds mono samples and the pure functions on them. `decoding` reads a recording that a
stranger sent: `container` checks its headers, and `libsndfile` decodes it in a confined process
(`sandbox`). `stream` reads recordings too long for memory, `encoding` writes files, `loudness`
measures and sets their level (ITU-R BS.1770).
"""
