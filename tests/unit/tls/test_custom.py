"""Where certificates of one's own are read from."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from kproxy.config.model import CertificateFiles, CertificateSecrets, Service
from kproxy.tls.checked import CertificateError, Checked
from kproxy.tls.custom import Found, read_custom
from tests.support.certificates import Authority

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
CA = Authority(now=NOW)
PAIR = CA.issue("a.example")


class Folder:
    """A project with secrets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / ".kamal").mkdir()
        self.secrets = path / ".kamal" / "secrets"
        self.files = (path / ".kamal" / "secrets-common", self.secrets)

    def service(self, name: str = "app", certificate: str = "CERT", key: str = "KEY") -> Service:
        pair = CertificateSecrets(certificate, key)
        return Service(name, (), ssl=pair, secrets_files=self.files)

    def read(self, *services: Service, **environ: str) -> dict[str, Found]:
        return read_custom(services, {"PATH": "/usr/bin:/bin", **environ}, NOW)

    def only(self, **environ: str) -> Found:
        return self.read(self.service(), **environ)["app"]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def chain_of(found: Found) -> str:
    assert isinstance(found, Checked), found
    return found.certificate.chain


def test_values_of_several_lines_are_read_from_the_secrets(folder: Folder) -> None:
    folder.secrets.write_text(f"CERT=\"{PAIR.chain}\"\nKEY='{PAIR.key}'\n")
    assert chain_of(folder.only()) == PAIR.chain


def test_commands_run_where_kamal_runs_them(folder: Folder) -> None:
    (folder.path / "config").mkdir()
    (folder.path / "config" / "cert.pem").write_text(PAIR.chain)
    (folder.path / "config" / "key.pem").write_text(PAIR.key)
    folder.secrets.write_text("CERT=$(cat config/cert.pem)\nKEY=$(cat config/key.pem)\n")
    assert chain_of(folder.only()) == PAIR.chain


def test_what_no_file_has_comes_from_the_environment(folder: Folder) -> None:
    assert chain_of(folder.only(CERT=PAIR.chain, KEY=PAIR.key)) == PAIR.chain


def test_the_files_of_a_destination_win_over_those_of_all(folder: Folder) -> None:
    other = CA.issue("b.example")
    folder.files[0].write_text(f'CERT="{other.chain}"\nKEY="{other.key}"\n')
    assert chain_of(folder.only()) == other.chain
    folder.secrets.write_text(f'CERT="{PAIR.chain}"\nKEY="{PAIR.key}"\n')
    assert chain_of(folder.only()) == PAIR.chain


def test_what_is_missing_is_named_with_where_it_was_looked_for(folder: Folder) -> None:
    found = folder.only(CERT=PAIR.chain)
    assert isinstance(found, CertificateError)
    common, own = folder.files
    assert str(found) == f"the secret KEY is neither in {common}, {own} nor in the environment"


def test_a_secret_that_will_not_do_is_named_and_not_quoted(folder: Folder) -> None:
    found = folder.only(CERT=PAIR.chain, KEY="hunter2")
    assert str(found) == "the secret KEY holds no private key in PEM form"


def test_a_command_that_fails_is_told_with_its_line_for_each_service(folder: Folder) -> None:
    folder.secrets.write_text("A=1\nCERT=$(false)\n")
    found = folder.read(folder.service("one"), folder.service("two"))
    text = f"{folder.secrets}:2: CERT: failed with status 1"
    assert [str(each) for each in found.values()] == [text, text]


def test_secrets_that_several_services_share_are_read_once(folder: Folder) -> None:
    folder.secrets.write_text(
        f"ONCE=$(echo x >> count)\nCERT='{PAIR.chain}'\nKEY='{PAIR.key}'\nOTHER='{PAIR.chain}'\n"
    )
    services = [folder.service("a"), folder.service("b"), folder.service("c", "OTHER")]
    found = folder.read(*services)
    assert found.keys() == {"a", "b", "c"}
    assert found["a"] is found["b"]
    assert (folder.path / "count").read_text() == "x\n"


def test_services_without_a_certificate_of_their_own_are_left_out(folder: Folder) -> None:
    assert folder.read(Service("plain", ()), Service("automatic", (), ssl=True)) == {}


def in_files(certificate: Path, key: Path) -> Found:
    service = Service("app", (), ssl=CertificateFiles(certificate, key))
    return read_custom([service], {}, NOW)["app"]


def test_files_are_read(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_text(PAIR.chain)
    key.write_text(PAIR.key)
    assert chain_of(in_files(certificate, key)) == PAIR.chain
    assert str(in_files(key, key)) == (
        f"the certificate {key} holds a private key, and should hold a certificate"
    )
    key.write_text(CA.issue("b.example").key)
    assert str(in_files(certificate, key)) == (
        f"the key {key} does not belong to the certificate {certificate}, which is for a.example"
    )


def test_files_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "no.pem"
    assert str(in_files(missing, missing)) == f"{missing} can't be read: No such file or directory"
    binary = tmp_path / "cert.der"
    binary.write_bytes(b"\x30\x82\xff\xfe")
    assert str(in_files(binary, binary)) == f"{binary} is no PEM file: it is not text"
