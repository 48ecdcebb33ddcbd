# CPU:  docker build -t couplingkit .
# CUDA: docker build -t couplingkit:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
#       docker run --rm --gpus all -v $PWD:/data couplingkit:cuda measure ...
FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.8" "torchvision>=0.23"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY couplingkit couplingkit
COPY cli cli
COPY data_manifests data_manifests
RUN pip install --no-cache-dir .
WORKDIR /data
ENV COUPLINGKIT_CACHE=/tmp/couplingkit-cache
ENTRYPOINT ["couplingkit"]
CMD ["--help"]
