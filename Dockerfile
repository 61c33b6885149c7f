# The image for Function Compute, which runs only linux/amd64. With provenance attestations it refuses
# the image: "platform of image is unknown/unknown".
#
#   docker build --platform linux/amd64 --provenance=false -t IMAGE .                          # CUDA 13
#   docker build --platform linux/amd64 --provenance=false --build-arg DEVICE=cpu -t IMAGE .   # no card
#
# CUDA 13 needs driver 580 or newer, which Function Compute has. If elsewhere the card's driver is
# older, /initialize logs that it uses the CPU; then build for CUDA 12:
#
#   docker build ... --build-arg CUDA=12.9.1 --build-arg CUDA_LOCK=image-cuda12 -t IMAGE .
#
# GPT-SoVITS bundles must then be fp32 or fp16: 8-bit T2S needs ONNX Runtime 1.27. To use a mirror of
# the package index: --build-arg PIP_INDEX_URL=...
ARG CUDA=13.0.1
ARG DEVICE=cuda

FROM nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu24.04 AS cuda
FROM ubuntu:24.04 AS cpu

# ffmpeg under the LGPL: Ubuntu's own build is under the GPL. Only what core/audio/ffmpeg.py asks for is
# built, so there are no network protocols and no video. The sources stay beside the program.
FROM ubuntu:24.04 AS ffmpeg
COPY cloud/build-ffmpeg /build-ffmpeg
RUN sh /build-ffmpeg /opt/ffmpeg

# hadolint ignore=DL3006
FROM ${DEVICE} AS build
ARG DEVICE
ARG CUDA_LOCK=image
ARG PIP_INDEX_URL
ENV PATH=/opt/venv/bin:$PATH \
    NUMBA_CACHE_DIR=/app/cache/numba \
    NUMBA_CPU_NAME=generic \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
# Versions are not pinned, because Ubuntu serves only the newest version of a package.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv
WORKDIR /app
# Dependencies come before the code, so that a change of the code does not reinstall them.
COPY requirements requirements
RUN if [ "$DEVICE" = cpu ]; then lock=image-cpu; else lock=$CUDA_LOCK; fi \
    && pip install --require-hashes --requirement requirements/build.txt \
    && pip install --require-hashes --no-build-isolation --requirement "requirements/$lock.txt"
COPY pyproject.toml README.md LICENSE NOTICE source/
COPY core source/core
COPY events source/events
COPY handlers source/handlers
COPY watermark source/watermark
# Install the command `voicedrop`, and remove what installs. Put the default voice into the image; this fails if it is not the
# pinned version. Put in what numba compiles for librosa, for any processor: it would take each new
# instance eight seconds. The cache is readable only by its owner, but the server runs as another user.
RUN pip install --no-index --no-deps --no-build-isolation ./source \
    && pip uninstall --yes pip setuptools \
    && cp source/LICENSE source/NOTICE . \
    && python -c "from pathlib import Path; from core.voice.kokoro import KokoroVoice; KokoroVoice.load(Path('cache'))" \
    && python -c "from core.speech.preparation import warm_up; warm_up()" \
    && chmod -R a+rX cache \
    && rm -r requirements source

# hadolint ignore=DL3006
FROM ${DEVICE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin voicedrop
COPY --from=ffmpeg /opt/ffmpeg /opt/ffmpeg
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
# numba uses only a cache that it could write to.
COPY --from=build --chown=10001:10001 /app/cache/numba /app/cache/numba
# Nothing else is writable to this user, but what is to everybody: /tmp, /var/tmp.
ENV PATH=/opt/venv/bin:/opt/ffmpeg/bin:$PATH \
    NUMBA_CACHE_DIR=/app/cache/numba \
    NUMBA_CPU_NAME=generic \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    VOICEDROP_CACHE=/app/cache \
    VOICEDROP_SANDBOX=required
WORKDIR /app
USER 10001:10001
EXPOSE 9000
# NVIDIA's entry point would print a banner into the log, whose lines are JSON.
ENTRYPOINT []
CMD ["python", "-m", "handlers.server"]
