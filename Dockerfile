# Shale's images: operator, storenode and csi, one target each.
#
#   docker build --target csi --build-arg VERSION=0.1.0 -t shale/csi:0.1.0 .
#
# Both bases are arguments. hack/images builds these same targets without a registry: its GO is an image that has the
# binaries at /out already, its BASE is made from Debian packages on the spot.
ARG BASE=debian:bookworm-slim
ARG GO=golang:1.26.6-bookworm

FROM ${GO} AS binaries
ARG VERSION=dev
WORKDIR /src
COPY . .
RUN test -d /out || CGO_ENABLED=0 GOFLAGS=-buildvcs=false \
    go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/ ./operator ./storenode ./csi

# What a node plugin calls: mkfs, fsck, blkid, mount, umount. Each is looked for: without fsck, say, nothing would ever be
# checked.
FROM ${BASE} AS node
RUN for tool in mkfs.xfs mkfs.ext4 fsck fsck.xfs fsck.ext4 blkid mount umount; do \
    command -v "$tool" >/dev/null || lacking="$lacking $tool"; done; \
    test -z "$lacking" || { apt-get update \
    && apt-get install -y --no-install-recommends e2fsprogs xfsprogs util-linux mount \
    && rm -rf /var/lib/apt/lists/*; }

FROM scratch AS operator
COPY --from=binaries /out/operator /usr/local/bin/operator
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/operator"]

FROM scratch AS storenode
COPY --from=binaries /out/storenode /usr/local/bin/storenode
# Keeps a thread of Go's runtime from being woken with each I/O: docs/adr/2026-11-25-runtime-watcher.md.
ENV GODEBUG=schedtrace=2147483647
ENTRYPOINT ["/usr/local/bin/storenode"]

FROM node AS csi
COPY --from=binaries /out/csi /usr/local/bin/shale-csi
ENTRYPOINT ["/usr/local/bin/shale-csi"]
