from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import Misconfigured
from core.settings import Settings


def test_without_any_variable_it_works_over_folders_beside_us() -> None:
    settings = Settings.from_environ({"HOME": "/home/a"})
    assert (settings.inbox, settings.results) == ("./bucket/inbox", "./bucket/results")
    assert (settings.consent, settings.engine) == ("required", "kokoro")
    assert settings.cache == Path("/home/a/.cache/voicedrop")


def test_one_variable_moves_all_three_folders() -> None:
    settings = Settings.from_environ({"VOICEDROP_BUCKET": "/data/"})
    assert (settings.inbox, settings.control) == ("/data/inbox", "/data/control")


def test_the_region_of_the_function_is_used_unless_another_is_given() -> None:
    assert Settings.from_environ({"FC_REGION": "cn-hangzhou"}).oss_region == "cn-hangzhou"


def test_secrets_do_not_show_in_the_repr() -> None:
    names = ("VOICEDROP_KEK", "VOICEDROP_SIGNING_KEY", "VOICEDROP_WATERMARK_KEY")
    shown = repr(Settings.from_environ(dict.fromkeys(names, "very-secret")))
    assert "very-secret" not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("VOICEDROP_CONSENT", "maybe", id="unknown-choice"),
        pytest.param("VOICEDROP_ENGINE", "", id="empty-choice"),
        pytest.param("VOICEDROP_THREADS", "many", id="not-a-number"),
        pytest.param("VOICEDROP_THREADS", "-1", id="below-range"),
        pytest.param("VOICEDROP_LEASE_SECONDS", "nan", id="nan"),
        pytest.param("VOICEDROP_MAX_ATTEMPTS", "0", id="zero-attempts"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=name) as caught:
        Settings.from_environ({name: value})
    assert caught.value.code == "SETTING_INVALID"


@pytest.mark.parametrize(
    ("inbox", "results", "control"),
    [
        pytest.param("b", "b", "c", id="same-folder"),
        pytest.param("b", "b/out", "c", id="results-inside-inbox"),
        pytest.param("b/in", "r", "b", id="inbox-inside-control"),
        pytest.param("oss://a", "oss://a/", "oss://c", id="same-bucket"),
    ],
)
def test_places_that_would_trigger_themselves_are_refused(
    inbox: str, results: str, control: str
) -> None:
    with pytest.raises(Misconfigured, match="CONFIG_LOOP"):
        Settings(inbox=inbox, results=results, control=control).refuse_loops()


def test_three_separate_places_are_accepted() -> None:
    Settings().refuse_loops()
    Settings(inbox="oss://a", results="oss://b", control="./c").refuse_loops()


def test_paths_may_begin_with_a_tilde_and_caches_follow_xdg() -> None:
    settings = Settings.from_environ({"VOICEDROP_KOKORO": "~/m.onnx", "XDG_CACHE_HOME": "/x"})
    assert settings.kokoro == Path.home() / "m.onnx"
    assert settings.cache == Path("/x/voicedrop")
