# Builds datasets and runs the model on a CPU: docker build -t tiktok-dm . && docker run -v "$PWD:/data" tiktok-dm build --demo --out demo
FROM python:3.12-slim-bookworm
# The index of PyTorch's CPU builds, as its installation page names it; without one comes the build for CUDA, which is large.
ARG TORCH_INDEX=""
WORKDIR /src
COPY . .
# PyTorch first and alone: whatever comes after finds it there.
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.13.0 \
    && pip install --no-cache-dir -c constraints.txt ".[model,web]" \
    && useradd --create-home dancer \
    && mkdir /data \
    && chown dancer /data
USER dancer
RUN tiktok-dm models fetch
WORKDIR /data
ENTRYPOINT ["tiktok-dm"]
CMD ["--help"]
