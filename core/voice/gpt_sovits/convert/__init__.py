"""Official GPT-SoVITS checkpoints in, one bundle of ONNX graphs out. No torch anywhere."""
