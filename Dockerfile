# No `syntax` line and no heredocs: this works with the BuildKit inside Docker Engine 20.10, without a download.
# `docker build .` alone works; a release adds the four arguments at the end.

FROM python:3.11-slim AS build
# Without pip inside: nothing is installed after the build.
RUN python -m venv --without-pip /venv
COPY app/requirements.txt /tmp/requirements.txt
# Bytecode is made here, once, so that a container starts fast on a read-only file system. It is trusted as it is:
# checking it against the sources at each start would cost time for files that never change.
RUN --mount=type=cache,target=/var/cache/pip \
    python -m pip --python /venv/bin/python install --cache-dir /var/cache/pip --no-compile --require-hashes -r /tmp/requirements.txt \
    && /venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /venv/lib
COPY app /srv/app
RUN /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /srv/app

FROM python:3.11-slim
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1
WORKDIR /srv
# Dependencies change rarely and the application with each release, so a host pulls only the small second layer.
COPY --from=build /venv /venv
COPY --from=build /srv/app /srv/app
# By number, so that Kubernetes and others can tell that it is not root. Nothing in the image belongs to it.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-m", "app.healthcheck"]
CMD ["python", "-m", "app"]

# Last, because they differ in each build and would invalidate every layer below them.
ARG GIT_SHA=unknown
ARG BUILD_TIME=unknown
ARG APP_VERSION=dev
ARG SOURCE=unknown
ENV GIT_SHA=$GIT_SHA \
    BUILD_TIME=$BUILD_TIME \
    APP_VERSION=$APP_VERSION
LABEL org.opencontainers.image.title="project-manager" \
      org.opencontainers.image.revision=$GIT_SHA \
      org.opencontainers.image.created=$BUILD_TIME \
      org.opencontainers.image.version=$APP_VERSION \
      org.opencontainers.image.source=$SOURCE
