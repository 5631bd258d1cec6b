# syntax=docker/dockerfile:1
# CPU: docker build --tag metaprompts .
# GPU: docker build --tag metaprompts --build-arg BACKEND=cu130 .
FROM python:3.12-slim

# cpu, or a CUDA version, such as cu130: see uv pip install --help.
ARG BACKEND=cpu
# The version comes from Git.
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY . .
RUN pip install --no-cache-dir uv \
    && uv pip install --system --no-cache --torch-backend=$BACKEND '.[video,openvino]'

WORKDIR /data
ENTRYPOINT ["metaprompts"]
CMD ["demo"]
