"""`voicedrop keys ...`: keys for a function, unseen by whoever deploys it; tokens for callers."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from typing import Annotated

import typer

from core.crypto import keys
from core.errors import Misconfigured
from core.settings import SETTINGS
from handlers import wiring
from handlers.api.callers import Tokens, hash_token
from handlers.cli.options import AsJson, read_settings
from handlers.cli.screen import CommandOutput, show
from handlers.secret_settings import seal

keys_app = typer.Typer(help="Hand keys to a function, and tokens to callers.", no_args_is_help=True)

_PARAMETERS = {"kek": "kek", "signing_key": "signing", "watermark_key": "watermark"}
"""Setting -> parameter of `keyring_from_values`."""


@keys_app.callback()
def _group() -> None: ...


@keys_app.command("token")
def make_token(
    name: Annotated[str, typer.Argument(help="The producer that will use it.")],
    scope: Annotated[
        list[str], typer.Option(help="What it allows; may be repeated (docs/http.md).")
    ],
    as_json: AsJson = False,
) -> None:
    """Make a token for a caller of the HTTP interface.

    It is printed this once; VOICEDROP_API_TOKENS holds its SHA-256 only.
    """
    token = f"vd_{secrets.token_urlsafe(32)}"
    entry = f"{name}:{'+'.join(sorted(set(scope)))}:{hash_token(token)}"
    Tokens(entry)  # raises if the name or a scope is wrong
    lines = [
        f"token, which only its caller needs: {token}",
        f"entry of VOICEDROP_API_TOKENS: {entry}",
    ]
    show(CommandOutput({"token": token, "entry": entry}, lines), as_json=as_json)


@keys_app.command("seal")
def seal_keys(
    key: Annotated[
        str, typer.Option(help="The key in KMS: id, alias or ARN. Default: $VOICEDROP_KMS_KEY.")
    ] = "",
    announce: Annotated[
        bool,
        typer.Option(
            "--announce",
            help="Of each kind, only make the newest key known and keep using the one before it: "
            "the first of the two deployments of a rotation.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Encrypt the secret settings with KMS, as s.yaml passes them to the function.

    Reads the folder of keys, and VOICEDROP_REDIS if it is set. The function decrypts them at the
    start with its own role; what is printed is not secret. With VOICEDROP_KMS_KEY, KMS wraps the
    data keys, so that no key-encryption key is needed.
    """
    settings = read_settings()
    values = keys.export_settings(settings.keys, announce=announce)
    texts = {name: values[parameter] for name, parameter in _PARAMETERS.items()}
    if settings.kms_key:
        del texts["kek"]
    if settings.redis:
        texts["redis"] = settings.redis
    if not (key := key or settings.kms_key):
        raise Misconfigured("SETTING_INVALID", "Name a key of KMS with --key.", advice="")
    kms = wiring.open_kms(replace(settings, kms_key=key), wiring.CurrentCredentials(os.environ))
    sealed = {
        f"{SETTINGS[name].variable}_SOURCE": seal(SETTINGS[name].variable, text, kms)
        for name, text in texts.items()
    }
    lines = [f"export {variable}={value}" for variable, value in sealed.items()]
    show(CommandOutput({"kms_key": key, "sealed": sealed}, lines), as_json=as_json)
