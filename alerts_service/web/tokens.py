"""Verification of tenant tokens: JSON Web Tokens (RFC 7519) that another service signs.

The application imports this module only if tokens are required, because cryptography is slow to import.
"""

import time
from functools import lru_cache
from typing import Annotated
from uuid import UUID

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Meta, Struct

from alerts_service.errors import InvalidToken, StartupError
from alerts_service.web.guards import VerifyToken

SECRET_SETTING, PUBLIC_KEY_SETTING = "TENANT_JWT_SECRET", "TENANT_JWT_PUBLIC_KEY"
MIN_SECRET_BYTES, MIN_RSA_BITS = 32, 2048
MAX_TOKEN_CHARACTERS = 8192
CACHED_TOKENS = 1024

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class Claims(Struct, frozen=True):
    """The claims of a token that the service uses. `exp` is in seconds since 1970; only `sub` is optional."""

    tenant_id: UUID
    exp: float
    sub: Annotated[str, Meta(max_length=255, pattern="^[^\\x00\\ud800-\\udfff]*$")] = ""


def verifier(secret: str | None, public_key: str | None) -> VerifyToken | None:
    """Create a verifier for tokens signed with a secret or a key pair, or return None if neither is set.

    The key determines the algorithm, never the token. The claims of a valid token are cached. The expiry is checked for
    each request.

    Raises:
        StartupError: The secret or the key is not valid. The message never contains the secret or the key.
    """
    if secret is not None and public_key is not None:
        raise StartupError(f"{SECRET_SETTING}, {PUBLIC_KEY_SETTING}: only one of them may be set")
    if secret is not None:
        return _create_verifier(_parse_secret(secret), "HS256")
    return _create_verifier(*_parse_public_key(public_key)) if public_key is not None else None


def _create_verifier(key: PublicKey | bytes, algorithm: str) -> VerifyToken:
    @lru_cache(CACHED_TOKENS)
    def decode_claims(token: str) -> Claims:
        claims = jwt.decode(token, key, algorithms=[algorithm])
        if "aud" in claims:  # PyJWT accepts an empty `aud`
            raise jwt.InvalidAudienceError
        return msgspec.convert(claims, Claims)

    def verify(token: str) -> tuple[UUID, str, float]:
        try:
            claims = decode_claims(token) if len(token) <= MAX_TOKEN_CHARACTERS else None
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
            claims = None
        if claims is None or claims.exp <= time.time():
            raise InvalidToken(
                "Authorization: not a valid tenant token (check its signature, exp, tenant_id, and that it has no aud "
                "claim)"
            )
        return claims.tenant_id, claims.sub, claims.exp

    return verify


def _parse_secret(secret: str) -> bytes:
    key = secret.encode()
    algorithm = jwt.get_algorithm_by_name("HS256")
    if len(key) < MIN_SECRET_BYTES:
        raise StartupError(f"{SECRET_SETTING}: must have at least {MIN_SECRET_BYTES} bytes")
    try:
        algorithm.prepare_key(key)
    except jwt.InvalidKeyError:
        raise StartupError(f"{SECRET_SETTING}: must be a secret, not a public key or certificate") from None
    return key


def _parse_public_key(pem: str) -> tuple[PublicKey, str]:
    r"""Parse a PEM public key and return the key with its algorithm. `\n` stands for a line break, as in `.env`."""
    try:
        key = load_pem_public_key(pem.replace("\\n", "\n").encode())
    except (ValueError, UnsupportedAlgorithm):
        raise StartupError(f"{PUBLIC_KEY_SETTING}: must be a public key in PEM format") from None
    if isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return key, "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key, "ES256"
    if isinstance(key, Ed25519PublicKey):
        return key, "EdDSA"
    raise StartupError(f"{PUBLIC_KEY_SETTING}: must be RSA of at least {MIN_RSA_BITS} bits, EC on P-256, or Ed25519")
