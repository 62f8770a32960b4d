"""Secrets (behaviour.md section 2)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kproxy.config.secrets import Secrets, SecretsError, read_secrets
from tests.unit.config.helpers import Files

PATH = {"PATH": os.environ["PATH"]}


def secrets(files: Files, text: str, **environ: str) -> Secrets:
    return read_secrets([files.write(text, "secrets")], {**PATH, **environ})


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A = b ", "b"),
        ("export A=b", "b"),
        ("A=", ""),
        ("A=b c # note", "b c"),
        ("A='b # $X $(no)'", "b # $X $(no)"),
        ('A="b # c" # note', "b # c"),
        ('A="b\\nc\\"d\\$X"', 'b\nc"d$X'),
        ('A="b\nc\n"', "b\nc\n"),
        ("A='b\nc'", "b\nc"),
        ("A=$X", "x"),
        ("A=${X}y", "xy"),
        ('A="$X-$NONE-"', "x--"),
        ("A=\\$X", "$X"),
        ("A=a$", "a$"),
        ("A=$(echo out)", "out"),
        ('A="<$(echo out; echo more)>"', "<out\nmore>"),
        ("A=$(echo ')' \"(\" (", None),
        ("A=$(echo ')')", ")"),
        ("A=$(echo $(echo deep))", "deep"),
        ("A=$(echo $X)", "x"),
        ('A=$(echo "$X" | tr x y)', "y"),
        ("A=$(v=1; echo $v)", "1"),
        ("A=a\r", "a"),
        ("\n# note\n\n  A=b\n", "b"),
        ("B=1\nA=$B$B", "11"),
        ("A=1\nA=2", "2"),
    ],
)
def test_dotenv_is_understood(files: Files, line: str, value: str | None) -> None:
    if value is None:
        with pytest.raises(SecretsError):
            secrets(files, line, X="x")
    else:
        assert secrets(files, line, X="x")["A"] == value


def test_what_a_command_printed_can_be_used_in_another_as_kamal_does(files: Files) -> None:
    text = "ALL=$(printf '%s' '\\{\\\"A\\\":1\\}')\nA=$(echo $ALL)\n"
    assert secrets(files, text)["A"] == '{"A":1}'


def test_later_files_win_and_a_missing_one_is_skipped(files: Files) -> None:
    common = files.write("A=1\nB=1\n", "secrets-common")
    own = files.write("B=2\nC=$A\n", "secrets.staging")
    read = read_secrets([common, files.folder / "none", own], PATH)
    assert [read[name] for name in "ABC"] == ["1", "2", "1"]


def test_a_name_in_no_file_is_looked_up_in_the_environment(files: Files) -> None:
    read = secrets(files, "A=file", A="environment", B="environment")
    assert (read["A"], read["B"]) == ("file", "environment")


def test_a_name_that_is_nowhere_is_an_error_that_names_it(files: Files) -> None:
    with pytest.raises(SecretsError, match=r"the secret NONE is neither in .*secrets nor in the"):
        secrets(files, "A=b")["NONE"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nA='s3cret", "secrets:2: A: the single quote has no end"),
        ('A="s3cret', "secrets:1: A: the double quote has no end"),
        ("A='s3cret' s3cret", "secrets:1: A: something follows the closing quote"),
        ("s3cret s3cret", "secrets:1: should be NAME=VALUE"),
        ("A=$(echo s3cret >&2; exit 3)", "secrets:1: A: failed with status 3"),
        ("A=$(echo s3cret", "secrets:1: A: $( has no closing parenthesis"),
        ("A=$(printf '\\377s3cret')", "secrets:1: A: printed what is not UTF-8 text"),
    ],
)
def test_an_error_names_the_line_and_not_the_content(files: Files, text: str, message: str) -> None:
    with pytest.raises(SecretsError) as caught:
        secrets(files, text)
    assert str(caught.value) == f"{files.folder}/{message}"
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_command_that_takes_too_long_is_ended_with_its_children(files: Files) -> None:
    path = files.write("A=$(cat /dev/zero | cat >/dev/null; echo)", "secrets")
    with pytest.raises(SecretsError, match=r"A: took longer than 0\.05 s"):
        read_secrets([path], PATH, time_limit=0.05)


def test_a_command_runs_in_the_folder_that_is_given(files: Files, tmp_path: Path) -> None:
    path = files.write("A=$(pwd)", "secrets")
    assert read_secrets([path], PATH, folder=tmp_path)["A"] == str(tmp_path)


def test_a_file_that_can_not_be_read_is_an_error(files: Files) -> None:
    with pytest.raises(SecretsError, match="can't be read: Is a directory"):
        read_secrets([files.folder], PATH)
    (files.folder / "secrets").write_bytes(b"A=\xff")
    with pytest.raises(SecretsError, match="is not UTF-8 text"):
        read_secrets([files.folder / "secrets"], PATH)


def test_secrets_do_not_show_when_printed(files: Files) -> None:
    assert "s3cret" not in repr(secrets(files, "A=s3cret", B="s3cret"))
