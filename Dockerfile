# One build of all programs, and an image for each: docker build --target account-service .
# Targets: account-service, forwarder, balance-service (on servers) and bank (everything in one process).

ARG RUST_IMAGE=rust:1.95-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim

# The manifests with empty sources. Compiling those compiles every dependency, and what comes out of here changes only
# when a dependency does: the layer with the compiled dependencies is kept over changes of the sources.
FROM ${DEBIAN_IMAGE} AS manifests
WORKDIR /bank
COPY . .
RUN set -eu; \
    find . -name '*.rs' -delete; \
    for crate in . account-service balance-service forwarder scripts/bench-report; do echo 'fn main() {}' >"$crate/src/main.rs"; done; \
    for crate in account-service balance-service forwarder shared; do : >"$crate/src/lib.rs"; done; \
    find . -type f ! -name 'Cargo.*' ! -name main.rs ! -name lib.rs -delete; \
    find . -type d -empty -delete; \
    # No layer may differ by the time it was made.
    find . -exec touch -d @0 {} +

FROM ${RUST_IMAGE} AS build
WORKDIR /bank
# Half the time and a tenth of the size; a panic still names its file and line.
ENV CARGO_PROFILE_RELEASE_DEBUG=false
COPY --from=manifests /bank .
RUN cargo build --release --locked --workspace --exclude bench-report --bins --features servers
COPY . .
# Cargo compares times, and the sources are older than their stand-ins.
RUN find . -name '*.rs' -not -path './target/*' -exec touch {} + \
    && cargo build --release --locked --workspace --exclude bench-report --bins --features servers \
    && install -D -t /programs target/release/account-service target/release/forwarder \
        target/release/balance-service target/release/bank

# What all images have in common. The certificates are for servers behind TLS.
FROM ${DEBIAN_IMAGE} AS base
LABEL org.opencontainers.image.title="bank" \
      org.opencontainers.image.description="An event-sourced bank whose projection is rebuilt, proved and rolled back while the bank is open" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --chmod=755 scripts/compose/ready /usr/local/bin/ready
ENV BANK_ACCOUNT_ADDR=0.0.0.0:8000 \
    BANK_BALANCE_ADDR=0.0.0.0:8030 \
    BANK_FORWARDER_ADDR=0.0.0.0:8010 \
    BANK_LOG_FORMAT=json
# A number, so that a cluster can see that it is not root.
USER 10001:10001
STOPSIGNAL SIGTERM

FROM base AS account-service
COPY --from=build /programs/account-service /usr/local/bin/account-service
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["ready", "8000"]
ENTRYPOINT ["account-service"]

FROM base AS forwarder
COPY --from=build /programs/forwarder /usr/local/bin/forwarder
EXPOSE 8010
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["ready", "8010"]
ENTRYPOINT ["forwarder"]

FROM base AS balance-service
COPY --from=build /programs/balance-service /usr/local/bin/balance-service
EXPOSE 8030
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["ready", "8030"]
ENTRYPOINT ["balance-service"]

# The last one, so that it is what "docker build ." builds: docker run -p 8000:8000 -p 8030:8030 -v bank:/data …
FROM base AS bank
COPY --from=build /programs/bank /usr/local/bin/bank
USER root
RUN install -d -o 10001 -g 10001 /data
USER 10001:10001
ENV BANK_DATA=/data
VOLUME /data
EXPOSE 8000 8030
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ready 8000 && ready 8030
ENTRYPOINT ["bank"]
