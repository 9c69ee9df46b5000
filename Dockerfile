# syntax=docker/dockerfile:1
# The daemon only: no simulator dependencies, no build tools, not root. It writes to /var/lib/forescale only.
# The base image is pinned by the digest of its index, which has amd64 and arm64. Another one: --build-arg BASE=...
ARG BASE=docker.io/library/python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/forescale
COPY requirements/image.txt requirements/image.txt
RUN /opt/forescale/bin/pip install --require-hashes -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY policies policies
COPY scaler scaler
COPY simulators simulators
RUN /opt/forescale/bin/pip install --no-deps --no-build-isolation . \
 && /opt/forescale/bin/pip uninstall --yes hatch-fancy-pypi-readme hatchling editables pip \
 && python -m compileall -q -j 0 /opt/forescale/lib

FROM ${BASE}
LABEL org.opencontainers.image.title="Forescale" \
      org.opencontainers.image.description="Autoscaling control plane for self-hosted LLM serving" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/forescale/forescale"
RUN useradd --uid 65532 --user-group --no-create-home --shell /usr/sbin/nologin forescale \
 && install -d -o 65532 -g 65532 /var/lib/forescale /etc/forescale
COPY --from=build /opt/forescale /opt/forescale
ENV PATH=/opt/forescale/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 OPENBLAS_NUM_THREADS=1
USER 65532:65532
# The journal's folder `journal` is here. Mount a volume; the root file system may be read-only.
WORKDIR /var/lib/forescale
VOLUME /var/lib/forescale
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["forescale"]
CMD ["run", "/etc/forescale"]
