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
    said = {"tenant_id": str(tenant), "exp": int(time.time()) + 600, **claims}
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, PRIVATE_KEYS.get(algorithm, JWT_SECRET), algorithm=algorithm)


def bearer_header(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
