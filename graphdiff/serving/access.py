"""Who may call a service, who may change it, and which folders it may load."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from graphdiff.errors import ConfigError, DataError

#: Environment variable that holds the token.
TOKEN_VARIABLE = "GRAPHDIFF_TOKEN"
#: Names of this machine that are always allowed, with the port that the service is bound to.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+))(?::([0-9]{1,5}))?")
# What RFC 6750 allows in a bearer token. Fewer characters could be guessed.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")


class Access:
    """The rules of access to a service.

    A loopback address is no proof of a local caller: pages of other sites in a browser on this
    machine have one (by DNS rebinding), and so have all callers behind a proxy on this machine.
    Therefore every request must name an allowed host, and every change needs the token.

    Args:
        token: Bearer token of those who may change the service, of 16 to 512 characters.
            (default: a generated one)
        hosts: Allowed hosts beside loopback, as ``name`` or ``name:port``. Without a port, the
            ports 80 and 443 and the one that the service is bound to are allowed.
        runs: Folder whose RUN folders may be loaded. By default only the folder that is served
            already.

    Raises:
        ConfigError: If the token, a host or the folder cannot be used.
    """

    def __init__(
        self, token: str | None = None, hosts: Iterable[str] = (), runs: Path | None = None
    ) -> None:
        self.token = secrets.token_urlsafe(32) if token is None else token
        if not _TOKEN.fullmatch(self.token):
            raise ConfigError(
                "the token cannot be used; give 16 to 512 letters, digits or any of . _ ~ + / = -"
            )
        self._hosts = frozenset(_host(one) for one in hosts)
        if runs is not None and not runs.is_dir():
            raise ConfigError(f"{runs} is not a folder; give the folder that holds RUN folders")
        self._runs = None if runs is None else runs.resolve()

    def allows_host(self, host: str, default: int, bound: int) -> bool:
        """Return whether the host of a request is allowed.

        Args:
            host: ``name`` or ``name:port``, as in the header ``Host``.
            default: Port where ``host`` has none.
            bound: Port that the service is bound to.
        """
        found = _split(host)
        if found is None:
            return False
        name, port = found[0], default if found[1] is None else found[1]
        if name in LOOPBACK and port == bound:
            return True
        return (name, port) in self._hosts or (
            (name, None) in self._hosts and port in (80, 443, bound)
        )

    def allows_origin(self, origin: str, bound: int) -> bool:
        """Return whether pages of an origin (the header ``Origin``) may call the service."""
        scheme, separator, host = origin.partition("://")
        default = {"http": 80, "https": 443}.get(scheme)
        return bool(separator) and default is not None and self.allows_host(host, default, bound)

    def allows_change(self, authorization: str) -> bool:
        """Return whether a header ``Authorization`` carries the token. The time that it takes does
        not depend on how many characters are right."""
        scheme, _, token = authorization.partition(" ")
        same = hmac.compare_digest(token.strip().encode(), self.token.encode())
        return same and scheme.lower() == "bearer"

    def run_folder(self, run: str) -> Path:
        """Return the folder of a RUN that a caller names.

        Args:
            run: Path of the folder, in the folder of RUNs or relative to it.

        Raises:
            DataError: If it may not be loaded; whether it exists makes no difference.
        """
        if self._runs is None:
            raise DataError(
                "run is given, but this service loads no other folder than its own; leave run out, "
                "or start the service with --runs DIR"
            )
        refusal = DataError("run is not a folder that this service may load; see --runs")
        # First by its name alone, so that nothing outside is even looked at.
        folder = Path(os.path.normpath(self._runs / run))
        if not folder.is_relative_to(self._runs):
            raise refusal
        try:
            folder = folder.resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            raise refusal from None
        # A link may lead out of it.
        if not folder.is_relative_to(self._runs):
            raise refusal
        return folder


def find_token(file: Path | None = None) -> str | None:
    """Return the token in a file or else in ``$GRAPHDIFF_TOKEN``, or None if neither is given.

    Raises:
        ConfigError: If the file cannot be read as text.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE)
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds more than ASCII text"
        raise ConfigError(f"cannot read a token from {file}: {reason}") from None


def _split(host: str) -> tuple[str, int | None] | None:
    """``name:port`` as its parts, in lower case; None if it is no such thing."""
    found = _AUTHORITY.fullmatch(host)
    if found is None:
        return None
    address, name, port = found.groups()
    if address is not None:
        try:
            name = str(ipaddress.IPv6Address(address))
        except ValueError:
            return None
    number = None if port is None else int(port)
    return None if number is not None and number > 65535 else (name.lower(), number)


def check_host(text: str) -> str:
    """Return a host as ``name`` or ``name:port``, in lower case.

    Raises:
        ConfigError: If it is no host.
    """
    name, port = _host(text)
    shown = f"[{name}]" if ":" in name else name
    return shown if port is None else f"{shown}:{port}"


def _host(text: str) -> tuple[str, int | None]:
    found = _split(f"[{text}]" if text.count(":") > 1 and "[" not in text else text)
    if found is None:
        raise ConfigError(
            f"{text!r} is not a host; give a name or an address, with or without a port, "
            "such as shop.example or shop.example:8443"
        )
    return found
