# CPU:   docker build --tag ldip .
# CUDA:  docker build --tag ldip:cuda --build-arg EXTRAS=cuda12,heif .
#        (The wheels of JAX bring CUDA; the driver is that of the host.)
# Run:   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/data" ldip upscale shot.mp4 shot-4k.mp4
#        with --gpus all for CUDA, and --volume ldip-cache:/cache to keep weights from one run to the next.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ARG EXTRAS=heif
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY ldip_jax ldip_jax
COPY configs configs
RUN python -m venv /opt/ldip && /opt/ldip/bin/pip install --no-cache-dir ".[${EXTRAS}]"

FROM python:${PYTHON}-slim
COPY --from=build /opt/ldip /opt/ldip
# Anyone may write here: containers are run with the user's own id.
RUN mkdir -m 1777 /cache
ENV PATH=/opt/ldip/bin:$PATH LDIP_CACHE=/cache HOME=/cache
VOLUME /cache
WORKDIR /data
USER 1000:1000
ENTRYPOINT ["ldip"]
CMD ["--help"]
