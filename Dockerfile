# One file, three images:
#   docker build --target agent   -t latency-agent .      what an edge device needs: no torch, fastapi or sqlalchemy
#   docker build --target service -t latency-service .    HTTP service and migrations: no torch
#   docker build --target trainer -t latency-trainer .    the same and torch
# The trainer's torch comes from pip's usual index; --build-arg TORCH_INDEX=URL names another (smaller CPU-only builds).
FROM python:3.11-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY latency_service latency_service
COPY pruning_client pruning_client
COPY migrations migrations
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
# the service extra without what only training imports
RUN python -c "import tomllib; \
extra = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['service']; \
print(*(entry for entry in extra if not entry.startswith(('torch', 'scikit-learn'))), sep='\n')" > /wheels/service.txt

FROM python:3.11-slim AS agent
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    LATENCY_SERVICE_DATA_DIR=/data LATENCY_SERVICE_STATE_DIR=/data/agent
RUN useradd --create-home --uid 10001 latency && install -d -o latency -g latency /data
COPY --from=wheel /wheels /wheels
RUN pip install /wheels/*.whl
USER latency
VOLUME /data
ENTRYPOINT ["latency-service"]
CMD ["agent"]

FROM agent AS service
USER root
RUN pip install -r /wheels/service.txt
USER latency
ENV LATENCY_SERVICE_HOST=0.0.0.0
EXPOSE 8760
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8760/healthz', timeout=2)"]
CMD ["serve"]

FROM service AS trainer
ARG TORCH_INDEX=
USER root
COPY constraints.txt /wheels/
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c /wheels/constraints.txt torch \
    && pip install -c /wheels/constraints.txt "$(echo /wheels/*.whl)[service]"
USER latency
HEALTHCHECK --interval=60s --timeout=20s CMD ["latency-service", "db", "current"]
CMD ["trainer"]
