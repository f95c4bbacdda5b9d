"""Where passphrases come from: SAMARA_PASSPHRASE, else a person on a terminal, else nobody."""

from __future__ import annotations

import os

import click

from samara.cli.common import screen

ENV_PASSPHRASE = "SAMARA_PASSPHRASE"  # noqa: S105  (a variable's name)


def told_passphrase(what: str) -> str | None:  # noqa: ARG001  (fits `AskPassphrase`)
    """SAMARA_PASSPHRASE if it is set; never asks a person. Fits `AskPassphrase`."""
    return os.environ.get(ENV_PASSPHRASE) or None


def ask_passphrase(what: str) -> str | None:
    """The passphrase that opens `what`; None when there is nobody to ask. Fits `AskPassphrase`."""
    told = told_passphrase(what)
    if told:
        return told
    if not screen.can_ask():
        return None
    answer: str = click.prompt(f"Passphrase of {what}", hide_input=True, err=True)
    return answer


def choose_passphrase(what: str) -> str | None:
    """A new passphrase for `what`; None if nobody chose one."""
    told = os.environ.get(ENV_PASSPHRASE)
    if told or not screen.can_ask():
        return told or None
    answer: str = click.prompt(
        f"Passphrase for {what} (empty for none)",
        default="", show_default=False, hide_input=True, confirmation_prompt=True, err=True,
    )  # fmt: skip
    return answer or None
