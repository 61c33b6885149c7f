"""Converting checkpoints into a bundle with the results of upstream."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from core.audio.waveform import Audio
from core.errors import Misconfigured, Refused
from core.voice.gpt_sovits import reference
from core.voice.gpt_sovits.bundle import SPEC, Bundle
from core.voice.gpt_sovits.convert import checkpoint
from core.voice.gpt_sovits.convert.bundle import Sources, convert
from core.voice.gpt_sovits.convert.checks import Check, check_close, format_table
from core.voice.gpt_sovits.convert.verify import verify
from tests.support import torch_files

pytestmark = pytest.mark.slow


def rewrite(
    source: Path, out: Path, dtype: str = "<f4", /, **changes: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Write a checkpoint to `out` with changed tensors."""
    read = checkpoint.open_checkpoint(source)
    tensors = {name: read.load(name).astype(dtype) for name in read.tensors}
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del tensors[key]
        else:
            tensors[key] = value
    torch_files.write(out, tensors, dict(read.config) or None)
    return tensors


def test_every_stage_is_what_upstream_computes(bundle: Bundle, golden: Path) -> None:
    """v2ProPlus at fp32: tokens and codes are equal, the rest is within tolerance."""
    checks = list(verify(bundle, golden))
    assert len(checks) >= 26
    assert [str(check) for check in checks if not check.passed] == []
    assert format_table(checks).endswith(f"all {len(checks)} passed")


def test_verify_detects_a_slightly_changed_network(
    sources: Sources, golden: Path, tmp_path: Path
) -> None:
    read = checkpoint.open_checkpoint(sources.sovits)
    changed = read.load("enc_p.encoder2.attn_layers.0.emb_rel_v") * 1.1
    out = tmp_path / "changed.pth"
    rewrite(sources.sovits, out, enc_p__encoder2__attn_layers__0__emb_rel_v=changed)
    convert(replace(sources, sovits=out, bert=None), tmp_path / "bundle", precision="fp32")
    checks = list(verify(Bundle(tmp_path / "bundle", threads=1, cpu_only=True), golden))
    failed = {check.stage for check in checks if not check.passed}
    assert "enc_p latent" in failed
    assert not {"ssl", "ge", "logits", "wave"} & failed
    assert "FAILED" in format_table(checks)


def test_checks_fail_above_a_maximum_and_pass_above_a_minimum() -> None:
    check = check_close("stage", np.zeros(3), np.zeros(2))
    assert (str(check.stage), check.passed) == ("stage (3,) not (2,)", False)
    assert Check("likeness", 0.99, 0.95, at_least=True).passed


def test_verify_needs_a_golden_folder(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="OBJECT_MISSING"):
        list(verify(bundle, tmp_path))


@pytest.mark.parametrize("precision", ["int8", "fp16", "fast"])
def test_quantised_bundles_stay_close(
    sources: Sources, golden: Path, tmp_path: Path, precision: Any
) -> None:
    convert(replace(sources, bert=None), tmp_path / "b", precision=precision)
    for vnni in (False, True) if precision == "int8" else (False,):
        made = Bundle(tmp_path / "b", threads=1, cpu_only=True, vnni=vnni)
        checks = list(verify(made, golden))
        assert [str(check) for check in checks if not check.passed] == []
        assert any("cosine" in check.stage for check in checks)


def test_half_precision_files_convert(sources: Sources, tmp_path: Path) -> None:
    """Fine-tuned models are stored in fp16; their graphs equal those of the same fp32 numbers."""
    made = []
    assert sources.bert is not None
    bert = shutil.copytree(sources.bert, tmp_path / "bert")
    (bert / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n")
    for dtype in ("<f2", "<f4"):
        folder = tmp_path / dtype[1:]
        folder.mkdir()
        rewrite(sources.t2s, folder / "s1.ckpt", dtype)
        rewrite(sources.sovits, folder / "s2.pth", dtype)
        files = replace(sources, t2s=folder / "s1.ckpt", sovits=folder / "s2.pth", bert=bert)
        made.append(convert(files, folder / "bundle", precision="fp32"))
        sources = files
        assert (folder / "bundle/vocab.txt").read_bytes() == (bert / "vocab.txt").read_bytes()
    assert made[0].version == "v2ProPlus"
    assert made[0].parts == made[1].parts


def v2(sources: Sources, folder: Path) -> Path:
    """Make a v2 network from the v2ProPlus one: no speaker embedding, narrow timbres."""
    read = checkpoint.open_checkpoint(sources.sovits)
    narrow = read.shape("ge_to512.weight")[0]
    tensors = {name: read.load(name) for name in read.tensors}
    for name in (
        "sv_emb.weight",
        "sv_emb.bias",
        "ge_to512.weight",
        "ge_to512.bias",
        "prelu.weight",
    ):
        del tensors[name]
    for name, value in tensors.items():
        if name.startswith("ref_enc.fc.fc."):
            tensors[name] = value[:narrow]
        elif name.endswith("cond_layer.weight_v") or name == "dec.cond.weight":
            tensors[name] = value[:, :narrow]
    config = json.loads(json.dumps(read.config))
    return torch_files.write(folder / "s2_v2.pth", tensors, config)


def test_v2_is_detected_by_its_tensors_and_speaks(
    sources: Sources, golden: Path, tmp_path: Path
) -> None:
    """It needs no speaker encoder, and its other widths are accepted."""
    path = v2(sources, tmp_path)
    spec = convert(
        replace(sources, sovits=path, speaker=None, bert=None), tmp_path / "b", precision="fp32"
    )
    assert (spec.version, spec.speaker, spec.bert) == ("v2", False, False)
    noise = np.random.default_rng(0).standard_normal(40000).astype(np.float32) / np.float32(9)
    timbre = reference.mean_timbre(Bundle(tmp_path / "b", cpu_only=True), [Audio(noise, 32000)])
    assert np.isfinite(timbre).all()


def test_v2pro_is_detected_by_the_kernel_of_its_first_upsampling(
    sources: Sources, tmp_path: Path
) -> None:
    kernel = checkpoint.open_checkpoint(sources.sovits).load("dec.ups.0.weight_v")[:, :, 2:-2]
    rewrite(sources.sovits, tmp_path / "pro.pth", dec__ups__0__weight_v=kernel)
    pro = replace(sources, sovits=tmp_path / "pro.pth", bert=None)
    assert convert(pro, tmp_path / "b", precision="fp32").version == "v2Pro"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cfm.x": np.ones(1, "<f4")}, "v3 or v4"),
        ({"enc_p.text_embedding.weight": np.ones((322, 24), "<f4")}, "v1"),
        ({"enc_p.mrte.c_pre.weight": None}, "enc_p.mrte.c_pre.weight"),
        ({"dec.conv_post.weight": np.full((1, 1, 7), np.inf, "<f4")}, "not finite"),
    ],
    ids=["v3", "v1", "missing", "infinite"],
)
def test_a_failed_conversion_writes_nothing(
    sources: Sources, tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
    bad = tmp_path / "bad.pth"
    rewrite(sources.sovits, bad, **{k.replace(".", "__"): v for k, v in change.items()})
    with pytest.raises(Refused, match="CHECKPOINT_INVALID") as caught:
        convert(replace(sources, sovits=bad), tmp_path / "bundle", precision="fp32")
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == [bad]


@pytest.mark.parametrize(
    ("field", "key", "message"),
    [
        ("t2s", "model.ar_text_embedding.word_embeddings.weight", "has 512 symbols, too few"),
        ("t2s", "model.ar_predict_layer.weight", "has 511 semantic tokens"),
        ("sovits", "ssl_proj.weight", "unlike the HuBERT of"),
    ],
)
def test_files_that_were_not_trained_together_are_refused(
    sources: Sources, tmp_path: Path, field: str, key: str, message: str
) -> None:
    source = getattr(sources, field)
    value = checkpoint.open_checkpoint(source).load(key)
    other = value[:512] if field == "t2s" else value[:, :20]
    rewrite(source, tmp_path / "other.pth", **{key.replace(".", "__"): other})
    with pytest.raises(Refused, match=message):
        convert(replace(sources, **{field: tmp_path / "other.pth"}), tmp_path / "bundle")


def test_pro_models_need_the_speaker_encoder(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="give --speaker-encoder"):
        convert(replace(sources, speaker=None), tmp_path / "bundle")


def test_t2s_and_sovits_in_the_wrong_order_are_refused(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="CHECKPOINT_INVALID"):
        convert(replace(sources, t2s=sources.sovits, sovits=sources.t2s), tmp_path / "bundle")


@pytest.mark.parametrize("lost", ["config.json", "pytorch_model.bin"])
def test_an_incomplete_hubert_folder_is_refused(
    sources: Sources, tmp_path: Path, lost: str
) -> None:
    shutil.copytree(sources.hubert, tmp_path / "hubert")
    (tmp_path / "hubert" / lost).unlink()
    with pytest.raises(Refused, match="CHECKPOINT_INVALID"):
        convert(replace(sources, hubert=tmp_path / "hubert"), tmp_path / "bundle")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"conv_stride": [5]}, "lacks num_conv_pos"),
        ([], "lacks conv_stride"),
        ("[", "missing or damaged"),
        ("{}" + " " * (1 << 25), "missing or damaged"),
    ],
    ids=["incomplete", "list", "damaged", "huge"],
)
def test_a_config_that_does_not_fit_is_refused(
    sources: Sources, tmp_path: Path, config: object, message: str
) -> None:
    shutil.copytree(sources.hubert, tmp_path / "hubert")
    text = config if isinstance(config, str) else json.dumps(config)
    (tmp_path / "hubert" / "config.json").write_text(text)
    with pytest.raises(Refused, match=message):
        convert(replace(sources, hubert=tmp_path / "hubert"), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_config_of_words_is_refused(sources: Sources, tmp_path: Path) -> None:
    read = checkpoint.open_checkpoint(sources.sovits)
    config = json.loads(json.dumps(read.config))
    config["model"]["upsample_rates"] = ["ten"]
    torch_files.write(tmp_path / "s2.pth", {k: read.load(k) for k in read.tensors}, config)
    with pytest.raises(Refused, match="do not fit"):
        convert(replace(sources, sovits=tmp_path / "s2.pth"), tmp_path / "bundle")


@pytest.mark.parametrize(
    ("field", "name", "value", "message"),
    [
        ("sovits", "resblock", "2", "residual blocks of type 2, which are not supported"),
        ("t2s", "head", 7, "channels in 7 heads"),
    ],
)
def test_a_network_of_another_shape_is_refused(
    sources: Sources, tmp_path: Path, field: str, name: str, value: object, message: str
) -> None:
    read = checkpoint.open_checkpoint(getattr(sources, field))
    config = json.loads(json.dumps(read.config))
    config["model"][name] = value
    torch_files.write(tmp_path / "x.pth", {k: read.load(k) for k in read.tensors}, config)
    with pytest.raises(Refused, match=message):
        convert(replace(sources, **{field: tmp_path / "x.pth"}), tmp_path / "bundle")


def test_the_device_of_a_bundle_is_said_with_the_reason(bundle: Bundle) -> None:
    assert bundle.device == "cpu: requested by the caller"
    assert Bundle(bundle.folder).device.startswith(("cpu: ", "cuda: "))


def test_an_existing_folder_is_never_touched(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="OUTPUT_EXISTS"):
        convert(sources, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_hubert_with_new_key_names_is_the_same(
    sources: Sources, golden: Path, tmp_path: Path
) -> None:
    """The prefix `hubert.`, torch's new weight norm, and a tokenizer.json for BERT."""
    shutil.copytree(sources.hubert, tmp_path / "hubert")
    read = checkpoint.open_checkpoint(sources.hubert / "pytorch_model.bin")
    new = {"weight_g": "parametrizations.weight.original0"}
    new["weight_v"] = "parametrizations.weight.original1"
    tensors = {}
    for name in read.tensors:
        last = name.rsplit(".", 1)[-1]
        tensors["hubert." + name.replace(last, new.get(last, last))] = read.load(name)
    torch_files.write(tmp_path / "hubert" / "pytorch_model.bin", tensors)
    assert sources.bert is not None
    shutil.copytree(sources.bert, tmp_path / "bert")
    tokens = {"[UNK]": 0, "[SEP]": 2, "[CLS]": 1}
    (tmp_path / "bert" / "tokenizer.json").write_text(json.dumps({"model": {"vocab": tokens}}))
    both = replace(sources, hubert=tmp_path / "hubert", bert=tmp_path / "bert")
    convert(both, tmp_path / "bundle", precision="fp32")
    made = Bundle(tmp_path / "bundle", threads=1, cpu_only=True)
    checks = {check.stage: check.passed for check in verify(made, golden)}
    assert checks["ssl"]
    assert (tmp_path / "bundle" / "vocab.txt").read_text() == "[UNK]\n[CLS]\n[SEP]\n"


def test_progress_is_reported_to_the_end(sources: Sources, tmp_path: Path) -> None:
    reports: list[tuple[str, float]] = []
    convert(sources, tmp_path / "b", progress=lambda what, done: reports.append((what, done)))
    assert [done for _, done in reports] == sorted(done for _, done in reports)
    assert reports[-1] == ("done", 1.0)


def test_graphs_are_valid_onnx(bundle: Bundle) -> None:
    """Except for ONNX Runtime's own operators, which the checker does not know."""
    for path in bundle.folder.glob("*.onnx"):
        model = onnx.load(str(path), load_external_data=False)
        own = [node for node in model.graph.node if node.domain]
        assert {node.op_type for node in own} <= {"FusedMatMul"}
        assert len(model.graph.node) > len(own)


def test_a_bundle_knows_when_it_was_damaged(
    sources: Sources, bundle: Bundle, tmp_path: Path
) -> None:
    folder = shutil.copytree(bundle.folder, tmp_path / "copy")
    Bundle(folder)
    with (folder / "weights.bin").open("ab") as file:
        file.write(b"more")
    with pytest.raises(Misconfigured, match=r"weights\.bin is missing or truncated"):
        Bundle(folder)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "MODEL_MISSING"),
        (b"{", "MODEL_INVALID"),
        (b'{"x":' + b"[" * 1500, "MODEL_INVALID"),
        (b"{}", "MODEL_INVALID"),
    ],
    ids=["absent", "cut", "nested", "empty"],
)
def test_a_folder_that_is_not_a_bundle_is_refused(
    tmp_path: Path, content: bytes | None, code: str
) -> None:
    if content is not None:
        (tmp_path / SPEC).write_bytes(content)
    with pytest.raises(Misconfigured, match=code):
        Bundle(tmp_path)


def test_a_bundle_of_another_format_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    spec = json.loads((bundle.folder / SPEC).read_bytes())
    (tmp_path / SPEC).write_text(json.dumps({**spec, "schema": "voicedrop/gpt-sovits/9"}))
    with pytest.raises(Misconfigured, match="voicedrop/gpt-sovits/9"):
        Bundle(tmp_path)


def test_a_graph_that_cannot_be_loaded_is_a_damaged_model(bundle: Bundle, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle.folder, tmp_path / "copy")
    size = (folder / "flow.onnx").stat().st_size
    (folder / "flow.onnx").write_bytes(b"x" * size)
    with pytest.raises(Misconfigured, match=r"flow\.onnx cannot be loaded"):
        Bundle(folder).session("flow")
