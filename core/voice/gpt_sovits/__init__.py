"""GPT-SoVITS v2, v2Pro and v2ProPlus on ONNX Runtime.

T2S (text to semantic) is a language model from phonemes to semantic tokens, 25 a second. SoVITS
turns tokens and phonemes into a waveform in the timbre of a reference recording. `convert` writes
the graphs of both into a bundle, the folder that the engine loads.
"""
