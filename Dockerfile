# The image that Function Compute runs. Only linux/amd64 runs there, and provenance attestations make
# it answer "platform of image is unknown/unknown":
#
#   docker build --platform linux/amd64 --provenance=false -t IMAGE .
#
# onnxruntime-gpu 1.31 wants CUDA 13 and cuDNN 9, CUDA 13 a driver of 580 or newer. Where the card's
# driver is older, /initialize logs that it fell back to the CPU; then build for CUDA 12:
#
#   docker build ... --build-arg CUDA=12.9.1 --build-arg ONNXRUNTIME=1.26.0 -t IMAGE .
#
# GPT-SoVITS bundles must be of fp32 or fp16 then: T2S in 8 bits needs 1.27.
ARG CUDA=13.0.1

FROM nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu24.04 AS build
ARG ONNXRUNTIME=1.31.1
ARG PIP_INDEX_URL=https://pypi.org/simple
ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
# Ubuntu keeps only the newest version of a package: a pin would soon break the build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv
WORKDIR /app
# Dependencies before the code: a change of ours does not install them again.
COPY pyproject.toml cloud/constraints.txt cloud/image.py cloud/
RUN python cloud/image.py requirements cloud/pyproject.toml > cloud/requirements.txt \
    && sed "s/^onnxruntime-gpu==.*/onnxruntime-gpu==${ONNXRUNTIME}/" cloud/constraints.txt > cloud/pins.txt \
    && pip install --requirement cloud/requirements.txt --constraint cloud/pins.txt \
    && python cloud/image.py one-onnxruntime
COPY LICENSE NOTICE ./
COPY core core
COPY events events
COPY handlers handlers
COPY watermark watermark
# The default voice is part of the image, prepared: this fails if it is not the pinned one. The copy
# is written readable by its owner only, and who runs the server is somebody else.
RUN python -c "from pathlib import Path; from core.voice.kokoro import KokoroVoice; KokoroVoice.load(Path('cache'))" \
    && chmod -R a+rX cache \
    && rm -r cloud \
    && python -m compileall -q .

FROM nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin voicedrop
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
# Only /tmp is writable to this user.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    VOICEDROP_CACHE=/app/cache
WORKDIR /app
USER 10001:10001
EXPOSE 9000
CMD ["python", "-m", "handlers.server"]
