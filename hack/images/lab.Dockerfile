# Images that the lab needs besides Shale's own; built only by hack/images, see Dockerfile for BASE and GO.
ARG BASE
ARG GO

FROM ${GO} AS binaries

FROM scratch AS pause
COPY --from=binaries /out/pause /pause
ENTRYPOINT ["/pause"]

FROM scratch AS provisioner
COPY --from=binaries /out/csi-provisioner /csi-provisioner
ENTRYPOINT ["/csi-provisioner"]

FROM scratch AS attacher
COPY --from=binaries /out/csi-attacher /csi-attacher
ENTRYPOINT ["/csi-attacher"]

# For pods of the demo and of tests: a shell and the verifier.
FROM ${BASE} AS app
COPY --from=binaries /out/verifier /usr/local/bin/verifier
CMD ["sleep", "infinity"]
