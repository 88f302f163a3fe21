# Pin the base image by digest: --build-arg PYTHON_IMAGE=docker.io/library/python:3.13-slim@sha256:<digest>
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY pyproject.toml ./
# The deleted files belong to Swagger Editor, which the service does not serve.
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > requirements.txt \
    && python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install -r requirements.txt \
    && find /opt/venv \( -name 'swagger-editor*' -o -name '*.map' \) -delete
COPY . ./
RUN pip --python /opt/venv/bin/python install --no-deps --prefix /opt/service .

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --user-group --no-log-init --no-create-home --shell /usr/sbin/nologin alerts
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /opt/service /opt/venv
ENV PATH=/opt/venv/bin:$PATH ENVIRONMENT=production AS_ALERTS_HOST=0.0.0.0
# The base image has no bytecode of the standard library. This compiles the modules that the service and its health check
# import, as the container cannot write them at run time.
RUN python -c "import argparse, encodings.idna, urllib.request, uvicorn, alerts_service.app"
# No privileges, and no files of its own: the service also runs with a read-only root file system. The image contains no
# .env, so all settings come from environment variables.
USER 10001:10001
EXPOSE 3101
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", "\
import os, urllib.request as r; port = os.environ.get('AS_ALERTS_PORT') or '3101'; \
r.build_opener(r.ProxyHandler({})).open(f'http://localhost:{port}/health/live', timeout=2)"]
ENTRYPOINT ["alerts-service"]
