# kat.c on CPUs: builds, and runs the quickstart.
#
#     docker build -t kat.c --build-arg COMMIT=$(git rev-parse --short=10 HEAD) .
#     docker run --rm kat.c                                                  the quickstart
#     docker run --rm -v "$PWD/runs:/kat.c/runs" kat.c train_kat --epochs 2  any program; its runs stay outside
#
# ARCH is the processor that the programs are for: x86-64-v3 has AVX2; native is faster where the image stays on the
# machine that made it, and what other kinds of processor need.
FROM debian:bookworm-slim
WORKDIR /kat.c
COPY scripts/setup.sh scripts/
RUN scripts/setup.sh && gcc --version && rm -rf /var/lib/apt/lists/*
ARG ARCH=x86-64-v3
ENV MAKEFLAGS="ARCH=$ARCH"
COPY . .
ARG COMMIT=
RUN if [ -n "$COMMIT" ]; then echo "$COMMIT" >COMMIT; fi
RUN make -j4 train_kat convert_data analyze compare_runs inspect fit_rational && make install
CMD ["scripts/quickstart.sh"]
