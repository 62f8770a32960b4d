"""What a process of kproxy does not import until it needs it: memory, and time at the start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kproxy

REACTOR = "from kproxy.reactors import install_fastest_reactor; install_fastest_reactor()"
WORKER = "import kproxy.workers.worker; from kproxy.plugins import find_wrappers; find_wrappers()"
CONTROL = "import kproxy.service"
TLS_LIBRARIES = ("OpenSSL", "cryptography", "service_identity", "twisted.internet.ssl")
CERTIFICATE = """
from kproxy.snapshot import Certificate
from kproxy.tls.contexts import Contexts
Contexts().keep({Certificate("chain", "key")}, {})
"""


def imported(program: str, *names: str) -> list[str]:
    """Which of some modules a process has imported by the end of a program."""
    result = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*(set(sys.modules) & {set(names)}))"],
        env={"PYTHONPATH": str(Path(kproxy.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(result.stdout.split())


def test_a_worker_starts_without_what_reads_yaml_and_without_twisteds_tls() -> None:
    assert imported(f"{WORKER}; {REACTOR}", "yaml", *TLS_LIBRARIES) == []


def test_a_worker_without_uvloop_does_as_well() -> None:
    program = f"import sys; sys.modules['uvloop'] = None\n{WORKER}; {REACTOR}"
    assert imported(program, "yaml", *TLS_LIBRARIES) == []


def test_the_control_process_starts_without_twisteds_tls() -> None:
    assert imported(f"{REACTOR}; {CONTROL}", *TLS_LIBRARIES) == []


def test_what_reads_certificates_is_there_before_the_first_client_of_one() -> None:
    assert imported(CERTIFICATE, "cryptography.x509") == ["cryptography.x509"]


def test_whoever_imports_twisteds_tls_once_there_is_a_reactor_gets_it() -> None:
    program = f"""
{REACTOR}
from twisted.internet import ssl
from twisted.protocols.tls import TLSMemoryBIOFactory
import twisted.protocols.tls as tls
assert isinstance(TLSMemoryBIOFactory, type) and TLSMemoryBIOFactory is tls.TLSMemoryBIOFactory
assert ssl.__file__.endswith("ssl.py") and tls.__file__.endswith("tls.py")
"""
    names = ("twisted.internet.ssl", "twisted.protocols.tls")
    assert imported(program, *names) == list(names)


def test_a_reactor_that_wants_more_of_twisteds_tls_than_it_does_gets_that() -> None:
    program = """
import sys
from kproxy.reactors import _without_twisted_tls
with _without_twisted_tls():
    from twisted.protocols.tls import TLSMemoryBIOProtocol
    from twisted.protocols import tls
assert TLSMemoryBIOProtocol is sys.modules["twisted.protocols.tls"].TLSMemoryBIOProtocol
assert tls.TLSMemoryBIOProtocol is TLSMemoryBIOProtocol
"""
    assert imported(program, "twisted.protocols.tls", "twisted.internet.ssl") == [
        "twisted.protocols.tls"
    ]


def test_twisteds_tls_stays_what_it_is_where_it_was_imported_before() -> None:
    program = f"""
from twisted.internet import ssl
from twisted.protocols import tls
{REACTOR}
from twisted.internet import posixbase
assert (posixbase.ssl, posixbase.tls) == (ssl, tls)
"""
    assert imported(program, "twisted.internet.ssl") == ["twisted.internet.ssl"]
