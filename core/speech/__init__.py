"""Analysis of recorded speech: where somebody speaks, who speaks, and which words.

`reference` checks and prepares a reference recording, which `preparation` does with librosa in a
confined process. `activity` is the voice activity detector, `encoders` computes speaker embeddings,
`speaker_change` detects a second speaker, `recognise` transcribes (extra `asr`), and `filter_bank`
computes the mel filter banks of what librosa does not prepare.
"""
