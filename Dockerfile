# One image for every process; docker-compose.yml says which one a container is.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 DATA_DIR=/data HF_HOME=/tmp/huggingface
WORKDIR /app

# Dependencies first: they change less often than the code. torch comes from the index that the build chooses
# (--build-arg PIP_EXTRA_INDEX_URL=…): the CPU build is a tenth of the size and enough for everything but gpu-worker.
ARG PIP_EXTRA_INDEX_URL
COPY pyproject.toml requirements.lock README.md LICENSE ./
RUN pip install --no-cache-dir -c requirements.lock torch && pip install --no-cache-dir -c requirements.lock ".[train]"

COPY . .
RUN useradd --uid 10001 --create-home roundtable && install -d -o roundtable -m 0700 /data
USER roundtable
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM

# exec, so that the process itself receives the signal.
ENTRYPOINT ["/app/deploy/container"]
CMD ["web"]
