"""The outer leg: TLS from the gateway to a server, verified as the host does. Nothing turns that off."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from engine.gateway.limits import Limits
from engine.gateway.tlsio import TlsStream, end_strictly, start_tls
from engine.gateway.upstream import Streams, UpstreamUnreachable

# Where distributions keep theirs: a Python that was built elsewhere (uv's, say) looks in places of its own.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def verifying_context() -> ssl.SSLContext:
    """Trusts what the host trusts, SSL_CERT_FILE and SSL_CERT_DIR included. Takes 50 ms: once for each gateway."""
    context = end_strictly(ssl.create_default_context())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # a subject is text for people (RFC 9525, 2)
    # Python 3.13 asks for key identifiers, which many a company's authority does not have.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not context.cert_store_stats()["x509_ca"] and (found := [name for name in _BUNDLES if Path(name).is_file()]):
        context.load_verify_locations(found[0])
    return context


async def secure(
    below: Streams, context: ssl.SSLContext, host: str, protocols: Sequence[str], limits: Limits
) -> TlsStream:
    """TLS over a new connection to `host`, offering `protocols`. Raises UpstreamUnreachable that says why."""
    # One context serves all: OpenSSL copies the list when the connection is made, and nothing comes between.
    context.set_alpn_protocols(list(protocols))
    try:
        return await start_tls(below, context, limits.handshake_s, server_name=host)
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message.rstrip(".")
        raise UpstreamUnreachable(f"the certificate of {host} is not accepted", reason) from error
    except TimeoutError as error:
        raise UpstreamUnreachable(f"no TLS with {host}", f"no answer within {limits.handshake_s:g} s") from error
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise UpstreamUnreachable(f"no TLS with {host}", reason) from error
