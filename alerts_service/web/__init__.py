"""Litestar: requests, responses, middleware, guards, errors and the OpenAPI document, shared by all features."""
