from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from core import settings as module
from core.errors import Misconfigured
from core.settings import SETTINGS, Setting, Settings
from handlers.server import secrecy

NUMBERS = [row for row in SETTINGS.values() if row.type in (int, float)]
CHOICES = [row for row in SETTINGS.values() if row.choices]


def named(row: Setting) -> str:
    return row.name


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


def test_the_defaults_of_the_environment_are_those_of_the_class() -> None:
    assert Settings.from_environ({"HOME": str(Path.home())}) == Settings()


def test_the_order_of_choices_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same module with every Literal reversed has the same defaults."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    literal = re.compile(r"= Literal\[(.*)\]")
    changed = literal.sub(
        lambda found: f"= Literal[{', '.join(reversed(found[1].split(', ')))}]", source
    )
    assert 'ConsentPolicy = Literal["verified", "optional", "required"]' in changed
    (tmp_path / "reversed.py").write_text(changed, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("reversed", tmp_path / "reversed.py")
    assert spec
    assert spec.loader
    other = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "reversed", other)
    spec.loader.exec_module(other)
    assert other.SETTINGS["consent"].choices == ("verified", "optional", "required")
    environ = {"HOME": "/home/a"}
    read, expected = other.Settings.from_environ(environ), Settings.from_environ(environ)
    for row in CHOICES:
        assert getattr(read, row.name) == getattr(expected, row.name) == row.default


def test_secrets_do_not_show_in_the_repr_and_are_masked_in_the_log() -> None:
    names = [row.variable for row in SETTINGS.values() if row.secret]
    assert len(names) == 5
    shown = repr(Settings.from_environ(dict.fromkeys(names, "very-secret")))
    assert "very-secret" not in shown
    assert all(secrecy.NAMES.search(name) for name in names)


@pytest.mark.parametrize("row", NUMBERS, ids=named)
def test_a_range_has_its_ends_and_an_empty_number_is_the_default(row: Setting) -> None:
    for value in (row.low, row.high):
        assert row.read({row.variable: f"{value}"}) == value
    for value in (row.low - 1, row.high + 1):
        with pytest.raises(Misconfigured, match=f"{row.variable} must be a number from"):
            row.read({row.variable: f"{value}"})
    assert row.low <= row.default <= row.high
    assert row.read({row.variable: ""}) == row.default


@pytest.mark.parametrize("row", CHOICES, ids=named)
def test_a_wrong_choice_is_answered_with_the_choices(row: Setting) -> None:
    assert [row.read({row.variable: choice}) for choice in row.choices] == list(row.choices)
    with pytest.raises(Misconfigured, match=f"{row.variable} must be one of") as caught:
        row.read({row.variable: "other"})
    assert ", ".join(row.choices) in caught.value.message


@pytest.mark.parametrize("row", SETTINGS.values(), ids=named)
def test_every_setting_is_explained_in_a_sentence(row: Setting) -> None:
    assert re.fullmatch(r"[A-Z`].{20,}\.", row.help)


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


def test_an_empty_path_is_the_default_and_the_folder_of_keys_is_taken_as_written() -> None:
    names = ("BUNDLE", "KOKORO", "CACHE")
    empty = Settings.from_environ({"HOME": "/a"} | {f"VOICEDROP_{name}": "" for name in names})
    assert (empty.bundle, empty.kokoro, empty.cache) == (None, None, Path("/a/.cache/voicedrop"))
    assert Settings.from_environ({"VOICEDROP_KEYS": "~/keys"}).keys == Path("~/keys")
    assert Settings.from_environ({"VOICEDROP_KEYS": ""}).keys == Path()


def test_an_empty_text_is_an_empty_text() -> None:
    settings = Settings.from_environ({"VOICEDROP_OSS_REGION": "", "FC_REGION": "cn-hangzhou"})
    assert settings.oss_region == ""


@pytest.mark.parametrize("name", ["BUCKET", "INBOX", "RESULTS", "CONTROL"])
def test_an_empty_place_counts_as_not_set(name: str) -> None:
    """An empty VOICEDROP_BUCKET would mean folders in the root of the file system."""
    assert Settings.from_environ({f"VOICEDROP_{name}": ""}) == Settings.from_environ({})
    environ = {"VOICEDROP_BUCKET": "/b"} | {f"VOICEDROP_{name}": ""}
    place = getattr(Settings.from_environ(environ), name.lower().replace("bucket", "inbox"))
    assert place == ("./bucket/inbox" if name == "BUCKET" else f"/b/{name.lower()}")
