FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ENV CGO_ENABLED=0
RUN go build -trimpath -ldflags '-s -w' -o /out/ ./collector ./pisensor

FROM alpine:3.22
RUN addgroup -S -g 8314 bramble \
	&& adduser -S -D -H -u 8314 -G bramble -h /data bramble \
	&& install -d -m 0700 -o bramble -g bramble /data /swarm
# The zones that on-call rotas name, from the Go distribution.
COPY --from=build /usr/local/go/lib/time/zoneinfo.zip /usr/share/zoneinfo.zip
ENV ZONEINFO=/usr/share/zoneinfo.zip
COPY --from=build /src/LICENSE /src/THIRD_PARTY.md /usr/share/doc/bramble/
COPY --from=build /out/collector /out/pisensor /usr/local/bin/
USER bramble
VOLUME /data
EXPOSE 8314 4222
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
	CMD wget -q -O /dev/null http://127.0.0.1:8314/-/healthy
CMD ["collector", "serve", "--data-dir", "/data", "--http", "0.0.0.0:8314", "--nats", "0.0.0.0:4222"]
