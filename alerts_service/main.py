"""The ASGI application for servers that import it: `uvicorn alerts_service.main:app`."""

import sys

from alerts_service.app import create_app
from alerts_service.errors import StartupError
from alerts_service.logging_config import configure_logging
from alerts_service.settings import load_settings

try:
    settings = load_settings()
    configure_logging(settings.log_level)
    app = create_app(settings)
except StartupError as error:
    sys.exit(f"alerts-service: {error}")
