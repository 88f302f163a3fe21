"""Tenants' tokens: JSON Web Tokens that somebody else signs. Imported only where they are asked for."""

import time
from collections.abc import Callable
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

SECRET, PUBLIC_KEY = "TENANT_JWT_SECRET", "TENANT_JWT_PUBLIC_KEY"
SECRET_BYTES, RSA_BITS = 32, 2048
MAX_TOKEN_CHARACTERS = 8192
KEPT = 1024

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class Claims(Struct, frozen=True):
    """What a token says: all but the subject it must; times are in seconds since 1970."""

    tenant_id: UUID
    exp: float
    sub: Annotated[str, Meta(max_length=255, pattern="^[^\\x00\\ud800-\\udfff]*$")] = ""


Verify = Callable[[str], tuple[UUID, str, float]]


def verifier(secret: str | None, public_key: str | None) -> Verify | None:
    """Make what tells a token's tenant, subject and expiry (seconds since 1970), or raises InvalidToken.

    Without a secret or a key there is nothing to verify.
    The algorithm is the key's own and never the token's choice. A good token is remembered until it expires.

    Raises:
        StartupError: the secret or the key will not do. The message never holds it.
    """
    if secret is not None and public_key is not None:
        raise StartupError(f"{SECRET}, {PUBLIC_KEY}: only one of them may be set")
    if secret is not None:
        return _verify_with(_checked_secret(secret), "HS256")
    return _verify_with(*_read_key(public_key)) if public_key is not None else None


def _verify_with(key: PublicKey | bytes, algorithm: str) -> Verify:
    @lru_cache(KEPT)
    def claims_of(token: str) -> Claims:
        claims = jwt.decode(token, key, algorithms=[algorithm])
        if "aud" in claims:  # PyJWT accepts an empty one
            raise jwt.InvalidAudienceError
        return msgspec.convert(claims, Claims)

    def verify(token: str) -> tuple[UUID, str, float]:
        try:
            claims = claims_of(token) if len(token) <= MAX_TOKEN_CHARACTERS else None
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
            claims = None
        if claims is None or claims.exp <= time.time():
            raise InvalidToken(
                "the token is not signed with the right key, has expired, names no tenant, or has an aud claim"
            )
        return claims.tenant_id, claims.sub, claims.exp

    return verify


def _checked_secret(secret: str) -> bytes:
    key = secret.encode()
    algorithm = jwt.get_algorithm_by_name("HS256")
    if len(key) < SECRET_BYTES:
        raise StartupError(f"{SECRET}: must have {SECRET_BYTES} bytes at least")
    try:
        algorithm.prepare_key(key)
    except jwt.InvalidKeyError:
        raise StartupError(f"{SECRET}: is a public key or a certificate, which is no secret") from None
    return key


def _read_key(pem: str) -> tuple[PublicKey, str]:
    """Read a key, its lines broken or, where a file of settings has none, held together by a backslash and an n."""
    try:
        key = load_pem_public_key(pem.replace("\\n", "\n").encode())
    except (ValueError, UnsupportedAlgorithm):
        raise StartupError(f"{PUBLIC_KEY}: cannot be read as a public key in PEM") from None
    if isinstance(key, RSAPublicKey) and key.key_size >= RSA_BITS:
        return key, "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key, "ES256"
    if isinstance(key, Ed25519PublicKey):
        return key, "EdDSA"
    raise StartupError(f"{PUBLIC_KEY}: must be RSA of {RSA_BITS} bits at least, EC on P-256, or Ed25519")
