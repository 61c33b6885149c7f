"""GPT-SoVITS v2, v2Pro and v2ProPlus on ONNX Runtime, from bundles that `convert`
writes."""
