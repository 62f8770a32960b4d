"""Where wrappers, DNS-01 responders and certificate stores are announced, kproxy's own and others'.

A distribution adds a wrapper by shipping a module ``kproxy/plugins/SOMETHING.py``, without an
``__init__.py`` beside it, that holds a `WrapperPlugin`::

    from kproxy.config.schema import Integer, Option, Section
    from kproxy.plugins import WrapperPlugin

    rate_limit = WrapperPlugin(
        name="rate-limit",
        description="Refuses requests of clients that send too many.",
        options=Section(Option("requests", Integer(minimum=1), required=True)),
        factory="example.ratelimit.RateLimit",
    )

A responder for DNS-01 is announced by a `DNSResponderPlugin` in the same way, and a store for
certificates by a `CertificateStorePlugin`.

This is ``twisted.plugin``'s way, and ``getPlugins(IWrapperPlugin, kproxy.plugins)`` finds what
`find_wrappers` does. `find_wrappers` walks the modules itself because ``getPlugins`` logs a broken
module with a traceback and does not tell its name, and because its ``dropin.cache``, which may be
impossible to write, would save nothing: each module here has to be imported anyway, since each is
there to announce something.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from twisted.plugin import IPlugin, pluginPackagePaths
from zope.interface import implementer

from kproxy.config.schema import Rejected, Section, imported
from kproxy.interfaces import ICertificateStorePlugin, IDNSResponderPlugin, IWrapperPlugin

if TYPE_CHECKING:
    from twisted.web.resource import IResource
    from txacme.interfaces import IResponder

    from kproxy.tls.acme.dns01 import Surroundings
    from kproxy.tls.acme.interfaces import CertificateStore
    from kproxy.tls.acme.stores import StoreSurroundings

P = TypeVar("P")

# Distributions that are not installed into one site-packages have a folder of this name each.
__path__.extend(pluginPackagePaths(__name__))
# What twisted.plugin asks of a package of plug-ins.
__all__: list[str] = []

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


@dataclass(frozen=True)
class _Announced:
    """What plug-ins of every kind have: a name, options, and how what they announce is made.

    @raise ValueError: the name is not lower-case letters, digits and dashes.
    """

    kind: ClassVar[str]

    name: str
    description: str
    factory: Callable[[Any, Any], Any] | str
    """A callable, or where to import it from (``package.module.Class``) once it is used, which keeps
    listing cheap."""
    options: Section[Any] = field(default_factory=Section)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            message = "should be lower-case letters, digits and dashes"
            raise ValueError(f"the name of a {self.kind} {message}, is {self.name!r}")

    def validate(self, node: Any, report: Any) -> object:
        """See `IWrapperPlugin.validate`. A factory that can't be imported is a problem as well."""
        try:
            self.resolve()
            _ = self.options.into
        except Exception as error:
            message = f"the {self.kind} {self.name} can't be imported: {_sentence(error)}"
            node.report(report, message)
            return None
        try:
            options: object = self.options.read(node, report)
        except Rejected:
            return None
        return options

    def resolve(self) -> Callable[[Any, Any], Any]:
        """The factory itself, imported if need be.

        @raise Exception: whatever importing it raises.
        """
        if not isinstance(self.factory, str):
            return self.factory
        found: Callable[[Any, Any], Any] = imported(self.factory)
        return found


@implementer(IPlugin, IWrapperPlugin)
@dataclass(frozen=True)
class WrapperPlugin(_Announced):
    """A kind of wrapper; its factory is ``(resource, options) -> IResource``."""

    kind: ClassVar[str] = "wrapper"

    def wrap(self, resource: IResource, options: object) -> IResource:
        """See `IWrapperPlugin.wrap`."""
        wrapped: IResource = self.resolve()(resource, options)
        return wrapped


@implementer(IPlugin, IDNSResponderPlugin)
@dataclass(frozen=True)
class DNSResponderPlugin(_Announced):
    """A kind of DNS-01 responder; its factory is ``(options, around) -> IResponder``."""

    kind: ClassVar[str] = "DNS-01 responder"

    def responder(self, options: object, around: Surroundings) -> IResponder:
        """See `IDNSResponderPlugin.responder`."""
        made: IResponder = self.resolve()(options, around)
        return made


@implementer(IPlugin, ICertificateStorePlugin)
@dataclass(frozen=True)
class CertificateStorePlugin(_Announced):
    """A kind of certificate store; its factory is ``(options, around) -> CertificateStore``."""

    kind: ClassVar[str] = "certificate store"

    def store(self, options: object, around: StoreSurroundings) -> CertificateStore:
        """See `ICertificateStorePlugin.store`."""
        made: CertificateStore = self.resolve()(options, around)
        return made


@implementer(IWrapperPlugin, IDNSResponderPlugin, ICertificateStorePlugin)
@dataclass(frozen=True)
class _Contested:
    """What stands for a name that several plug-ins have: whoever uses it hears of that."""

    name: str
    description: str
    options: Section[Any] = field(default_factory=Section)

    def validate(self, node: Any, report: Any) -> object:
        node.report(report, self.description)
        return None

    def wrap(self, resource: IResource, options: object) -> IResource:
        raise ValueError(self.description)

    def responder(self, options: object, around: Surroundings) -> IResponder:
        raise ValueError(self.description)

    def store(self, options: object, around: StoreSurroundings) -> CertificateStore:
        raise ValueError(self.description)


@dataclass(frozen=True)
class Installed(Generic[P]):
    """A plug-in that can be used, and where it comes from."""

    plugin: P
    module: str

    def distribution(self) -> str | None:
        """Name and version of what was installed with pip; None: not known. It is slow."""
        module = sys.modules.get(self.module)
        return None if module is None else _distribution_of(module)


@dataclass(frozen=True)
class Failed:
    """A plug-in that can't be used."""

    module: str
    error: str
    """A sentence."""

    def __str__(self) -> str:
        return f"the plug-in module {self.module} can't be used: {self.error}"


@dataclass(frozen=True)
class Found(Mapping[str, P]):
    """The plug-ins of one kind that there are, by name."""

    installed: Mapping[str, Installed[P]]
    failed: tuple[Failed, ...] = ()
    _contested: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> P:
        contested: P | None = self._contested.get(name)
        return self.installed[name].plugin if contested is None else contested

    def __iter__(self) -> Iterator[str]:
        yield from self.installed
        yield from self._contested

    def __len__(self) -> int:
        return len(self.installed) + len(self._contested)


Wrappers = Found[IWrapperPlugin]
DNSResponders = Found[IDNSResponderPlugin]
Stores = Found[ICertificateStorePlugin]


def find_wrappers(package: ModuleType | None = None) -> Wrappers:
    """Import every module that announces wrappers.

    @param package: where they are; this package by default.
    """
    return _find(IWrapperPlugin, WrapperPlugin.kind, package)


def find_dns_responders(package: ModuleType | None = None) -> DNSResponders:
    """The same for DNS-01 responders. Modules that can't be used are in its `failed` as well."""
    return _find(IDNSResponderPlugin, DNSResponderPlugin.kind, package)


def find_stores(package: ModuleType | None = None) -> Stores:
    """The same for certificate stores."""
    return _find(ICertificateStorePlugin, CertificateStorePlugin.kind, package)


def _find(interface: Any, kind: str, package: ModuleType | None) -> Found[Any]:
    package = sys.modules[__name__] if package is None else package
    failed: list[Failed] = []
    found: dict[str, list[Installed[Any]]] = {}
    for _, name, _ in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        try:
            module = importlib.import_module(name)
            announced = [(each.name, each) for each in _plugins(module, interface)]
        except (Exception, SystemExit) as error:
            failed.append(Failed(name, _sentence(error)))
            continue
        for called, plugin in announced:
            found.setdefault(called, []).append(Installed(plugin, name))
    contested = {}
    for name, those in found.items():
        if len(those) > 1:
            modules = " and ".join(each.module for each in those)
            message = f"{modules} both announce a {kind} {name}; uninstall one of them"
            contested[name] = _Contested(name, message)
            failed += (Failed(each.module, message) for each in those)
    installed = {name: those[0] for name, those in found.items() if len(those) == 1}
    return Found(installed, tuple(failed), contested)


def _plugins(module: ModuleType, interface: Any) -> Iterator[Any]:
    """What twisted.plugin would take for plug-ins, each once however many names it has."""
    seen: set[int] = set()
    for value in list(vars(module).values()):
        if id(value) in seen or isinstance(value, type):
            continue
        if IPlugin.providedBy(value) and interface.providedBy(value):
            seen.add(id(value))
            yield value


def _sentence(error: BaseException) -> str:
    """An exception in one line."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"line {error.lineno} is not Python ({error.msg})"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _distribution_of(module: ModuleType) -> str | None:
    # Only a listing needs it, and it takes tens of milliseconds.
    from importlib import metadata

    if module.__file__ is None:
        return None
    path = Path(module.__file__)
    suffix = "/".join(module.__name__.split(".")) + ".py"
    for distribution in metadata.distributions():
        for file in distribution.files or ():
            if str(file).endswith(suffix) and Path(str(file.locate())) == path:
                return f"{distribution.metadata['Name']} {distribution.version}"
    return None
