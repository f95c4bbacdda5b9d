"""The error tree: each class has its exit code, and says what is wrong in one line."""

from __future__ import annotations

import inspect

import pytest

from samara.schemas import errors
from samara.schemas.errors import ExitCode, IntegrityError, MalformedError, SamaraError, UsageError

EXIT_CODES = {
    "SamaraError": 1,
    "UsageError": 2,
    "NotFoundError": 3,
    "NetworkError": 4,
    "IntegrityError": 5,
    "MalformedError": 5,
    "TrustError": 6,
    "DiskFullError": 7,
    "EngineError": 8,
    "StoreError": 9,
    "InterruptedByUser": 130,
}
TREE: list[type[SamaraError]] = [
    found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, SamaraError)
]


def test_every_error_has_its_exit_code_and_scripts_rely_on_it() -> None:
    assert {error.__name__: int(error.exit_code) for error in TREE} == EXIT_CODES


def test_every_exit_code_is_of_a_class_or_of_an_outcome() -> None:
    outcomes = {ExitCode.OK, ExitCode.FINDINGS, ExitCode.UNCHECKED}
    assert {error.exit_code for error in TREE} | outcomes == set(ExitCode)
    assert not {error.exit_code for error in TREE} & outcomes


def test_only_what_breaks_its_format_is_malformed() -> None:
    assert [error for error in TREE if error.__base__ is not SamaraError and error is not SamaraError] == [
        MalformedError
    ]
    assert issubclass(MalformedError, IntegrityError)


@pytest.mark.parametrize("error", TREE)
def test_every_error_says_whose_fault_it_is(error: type[SamaraError]) -> None:
    assert inspect.getdoc(error)


def test_a_message_says_expected_actual_and_what_to_do() -> None:
    error = UsageError("block 17 of tiny.gguf", expected=1, actual=2, next_step="mend it")
    assert str(error) == "block 17 of tiny.gguf: expected 1, got 2 — mend it"
    assert error.as_dict() == {
        "error": "UsageError",
        "exit_code": 2,
        "message": "block 17 of tiny.gguf",
        "expected": "1",
        "actual": "2",
        "next_step": "mend it",
    }


def test_what_is_not_known_is_left_out() -> None:
    assert str(SamaraError("wrong")) == "wrong"
    assert str(SamaraError("wrong", expected=0)) == "wrong: expected 0"
    assert str(SamaraError("wrong", actual="")) == "wrong: got "
    assert str(SamaraError("wrong", next_step="go on")) == "wrong — go on"
