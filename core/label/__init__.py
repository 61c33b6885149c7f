"""The labels that law requires on synthetic speech.

`aigc` creates the metadata label and the audible cue of GB 45438-2025; `tags` writes metadata into
WAV, FLAC, MP3 and Opus files without changing their audio. docs/labels.md lists the requirements
that are met and those that are not.
"""
