# The program, and the black-box tests of the stack, as two targets. Plain syntax: no BuildKit needed.
FROM rust:1.95-bookworm AS build
WORKDIR /src
# Without rust-toolchain.toml (.dockerignore): the image's own toolchain is the one to use.
COPY . .
RUN cargo build --release --locked -p redis-proxy -p testkit --bin redis-proxy --bin stack-test \
    && strip target/release/redis-proxy target/release/stack-test

# Black-box tests over HTTP against the other containers: PROXY_URL, REDIS_URL, CAPACITY, GLOBAL_EXPIRY.
FROM debian:bookworm-slim AS proxy-test
COPY --from=build /src/target/release/stack-test /usr/local/bin/stack-test
USER 65532:65532
ENTRYPOINT ["stack-test"]

FROM debian:bookworm-slim AS proxy
COPY --from=build /src/target/release/redis-proxy /usr/local/bin/redis-proxy
# In a container loopback is reached by nobody else; what is published where is the stack's decision.
ENV HOST=0.0.0.0 RESP_HOST=0.0.0.0 ADMIN_HOST=0.0.0.0
EXPOSE 5000 5001 6380
USER 65532:65532
HEALTHCHECK --interval=5s --timeout=7s --start-period=2s --retries=3 CMD ["redis-proxy", "--check-health"]
ENTRYPOINT ["redis-proxy"]
