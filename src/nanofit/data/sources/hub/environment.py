"""What the environment says of the hub: its address, the token, proxies and certificates. All names are those that huggingface_hub
and httpx read."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from nanofit.common.errors import UserError

if TYPE_CHECKING:
    import httpx2

PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


def endpoint() -> tuple[str, str]:
    """The address that requests go to, and the same as it may be shown: without a user and a password. Raises UserError."""
    from huggingface_hub import constants

    # From the environment of now, not of the moment when huggingface_hub was imported.
    given = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
    address = urlsplit(given)
    if (
        address.scheme not in ("http", "https")
        or not address.hostname
        or not _has_good_port(address)
        or address.query
        or address.fragment
    ):
        raise UserError("HF_ENDPOINT is not an address: give one like https://huggingface.co, or unset it")
    return given, f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"


def client(timeout: "httpx2.Timeout") -> "httpx2.Client":
    """A client that follows redirects. Raises UserError for a proxy or certificates that can't be used."""
    import httpx2

    try:
        return httpx2.Client(timeout=timeout, follow_redirects=True)
    except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:
        raise _environment_refusal(error) from None


def _has_good_port(address: SplitResult) -> bool:
    try:
        return address.port != 0
    except ValueError:
        return False


def set_variables(names: Sequence[str]) -> list[str]:
    """Those of the environment's variables `names` that are set, in either case."""
    return [name for upper in names for name in (upper, upper.lower()) if os.environ.get(name)]


def _environment_refusal(error: Exception) -> UserError:
    """What a user reads where the environment keeps a client from being made. A proxy's address may hold a password, so it is
    not shown."""
    proxies = set_variables(PROXY_VARIABLES)
    if isinstance(error, ImportError):
        socks = [name for name in proxies if os.environ[name].startswith("socks")]
        return UserError(
            f"{', '.join(socks or proxies)} is a SOCKS proxy, which takes another package: pip install socksio, or give an "
            "http proxy"
        )
    if isinstance(error, OSError):
        certificates = (
            set_variables(("SSL_CERT_FILE",)) or set_variables(("SSL_CERT_DIR",)) or ["the system's certificates"]
        )
        where = ", ".join(f"{name} ({os.environ[name]})" if name in os.environ else name for name in certificates)
        return UserError(
            f"{where} can't be read: {error.strerror or error}: give a file of certificates, or unset the variable"
        )
    return UserError(f"{', '.join(proxies)} is no address of a proxy: give one like http://host:port, or unset it")


def headers() -> dict[str, str]:
    """Who asks, and the token where there is one. huggingface_hub's own headers would ask the hub for a list of agents first,
    to name in them what program runs it."""
    from huggingface_hub import constants, get_token

    from nanofit import __version__

    found = {"User-Agent": f"nanofit/{__version__}"}
    try:
        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(
            f"the token file {constants.HF_TOKEN_PATH} can't be read ({reason}): make it readable, or set HF_TOKEN"
        ) from None
    if token is not None:
        if not (token.isascii() and token.isprintable()):
            # Said here, since the HTTP library would show the token in its error.
            raise UserError("HF_TOKEN holds characters that no token has: copy it anew from the hub's settings")
        found["Authorization"] = f"Bearer {token}"
    return found
