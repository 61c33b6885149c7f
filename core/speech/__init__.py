"""What is heard in a recording: where somebody speaks, who, and which words.

`reference` checks and prepares the recording of a voice, `activity` finds speech in it, `encoders`
and `several` compare speakers, and `recognise` transcribes (extra `asr`).
"""
