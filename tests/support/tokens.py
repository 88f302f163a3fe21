"""Signed tenant tokens."""

import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

JWT_SECRET = "a-secret-for-tests-" * 4
PRIVATE_KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def sign_token(algorithm: str, tenant: object, **claims: object) -> str:
    """Sign a token that is valid for ten minutes. A claim that is None is left out."""
    all_claims = {"tenant_id": str(tenant), "exp": int(time.time()) + 600, **claims}
    payload = {name: value for name, value in all_claims.items() if value is not None}
    return jwt.encode(payload, PRIVATE_KEYS.get(algorithm, JWT_SECRET), algorithm=algorithm)


def bearer_header(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
