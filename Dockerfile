# The image that Function Compute runs. Only linux/amd64 runs there, and provenance attestations make
# it answer "platform of image is unknown/unknown":
#
#   docker build --platform linux/amd64 --provenance=false -t IMAGE .
#
# What is installed is requirements/image.txt: ONNX Runtime for CUDA 13 and cuDNN 9. CUDA 13 needs a
# driver of 580 or newer. Where the card's driver is older, /initialize logs that it fell back to the
# CPU; then build for CUDA 12:
#
#   docker build ... --build-arg CUDA=12.9.1 --build-arg LOCK=image-cuda12 -t IMAGE .
#
# GPT-SoVITS bundles must be of fp32 or fp16 then: T2S in 8 bits needs ONNX Runtime 1.27. Behind a
# mirror of the package index, name it with --build-arg PIP_INDEX_URL=...
ARG CUDA=13.0.1

FROM nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu24.04 AS build
ARG LOCK=image
ARG PIP_INDEX_URL
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
COPY requirements requirements
RUN pip install --require-hashes --requirement requirements/build.txt \
    && pip install --require-hashes --no-build-isolation --requirement requirements/${LOCK}.txt \
    && pip uninstall --yes setuptools
COPY LICENSE NOTICE ./
COPY core core
COPY events events
COPY handlers handlers
COPY watermark watermark
# The default voice is part of the image, prepared: this fails if it is not the pinned one. The copy
# is written readable by its owner only, and who runs the server is somebody else.
RUN python -c "from pathlib import Path; from core.voice.kokoro import KokoroVoice; KokoroVoice.load(Path('cache'))" \
    && chmod -R a+rX cache \
    && rm -r requirements \
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
