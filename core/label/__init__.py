"""The labels that law requires on synthetic speech.

`aigc` makes the metadata label and the audible cue of GB 45438-2025; `tags` writes metadata into
WAV, FLAC, MP3 and Opus files without touching their sound. What they fulfil and what not:
docs/labels.md.
"""
