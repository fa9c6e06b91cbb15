# The image of agents and controllers: a static binary, the programs that the collector runs, and nothing else.
#
#   docker build --build-arg VERSION=v0.1.0 -t plumbline .

FROM golang:1.26-bookworm AS build
WORKDIR /src
ENV CGO_ENABLED=0 GONOSUMDB=github.com/cloudflare/ipvs
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN make build VERSION="$VERSION"

FROM debian:bookworm-slim AS root
# Pinned: what they print is what is parsed. Mirrors drop a version when the next comes;
# the archive of a day keeps it. To update, set a later day and the versions it has.
ARG SNAPSHOT=20250520T000000Z
RUN rm -f /etc/apt/sources.list.d/debian.sources \
 && echo "deb [check-valid-until=no signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://snapshot.debian.org/archive/debian/$SNAPSHOT bookworm main" >/etc/apt/sources.list \
 && apt-get update && apt-get install --yes --no-install-recommends \
    ipset=7.17-1 iptables=1.8.9-2 netbase=6.4 nftables=1.0.6-2+deb12u2
COPY hack/image-root.sh /
COPY --from=build /src/bin/plumbline /
RUN /image-root.sh /root-of-image /plumbline

FROM scratch
COPY --from=root /root-of-image /
USER 60811:60811
ENTRYPOINT ["/usr/bin/plumbline"]
