{{/* The reference of one of our images: (dict "root" $ "name" "csi") */}}
{{- define "shale.image" -}}
{{- $v := .root.Values -}}
{{- with $v.imageRegistry }}{{ . }}/{{ end }}{{ $v.image.prefix }}/{{ .name }}:{{ $v.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* The reference of a sidecar: (dict "root" $ "name" "sig-storage/x:tag") */}}
{{- define "shale.sidecar" -}}
{{- with .root.Values.sidecars.registry | default .root.Values.imageRegistry }}{{ . }}/{{ end }}{{ .name }}
{{- end }}

{{- define "shale.labels" -}}
app.kubernetes.io/name: shale
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* What a pod without privileges may be. */}}
{{- define "shale.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "shale.placing" -}}
{{- with .nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "shale.live" -}}
livenessProbe:
  httpGet: {path: /healthz, port: {{ .port }}{{ with .host }}, host: {{ . }}{{ end }}}
  initialDelaySeconds: 10
  periodSeconds: 10
  failureThreshold: 6
{{- end }}

{{/* (dict "port" n "path" "/readyz" "host" "") */}}
{{- define "shale.ready" -}}
readinessProbe:
  httpGet: {path: {{ .path | default "/healthz" }}, port: {{ .port }}{{ with .host }}, host: {{ . }}{{ end }}}
  periodSeconds: 2
{{- end }}

{{/* Pods of a Deployment on different nodes, if that can be: (dict "root" $ "component" name) */}}
{{- define "shale.apart" -}}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{ include "shale.labels" . | nindent 14 }}
{{- end }}

{{/* How a Deployment is renewed: two pods on the host's network would fight over its ports. */}}
{{- define "shale.strategy" -}}
strategy:
  type: RollingUpdate
  rollingUpdate: {{ if .hostNetwork }}{maxSurge: 0, maxUnavailable: 1}{{ else }}{maxSurge: 1, maxUnavailable: 0}{{ end }}
{{- end }}

{{/* What both sidecars are given: (dict "root" $ "port" n) */}}
{{- define "shale.sidecarArgs" -}}
- --csi-address=/csi/csi.sock
- --leader-election
- --leader-election-namespace={{ .root.Release.Namespace }}
- --leader-election-lease-duration={{ .root.Values.sidecars.leaseDuration }}
- --leader-election-renew-deadline={{ .root.Values.sidecars.leaseRenewDeadline }}
- --leader-election-retry-period={{ .root.Values.sidecars.leaseRetryPeriod }}
- --http-endpoint=:{{ .port }}
- --kube-api-qps=50
- --kube-api-burst=100
- --retry-interval-start={{ .root.Values.sidecars.retryIntervalStart }}
- --retry-interval-max={{ .root.Values.sidecars.retryIntervalMax }}
- --timeout=30s
{{- end }}

{{- define "shale.sidecarLive" -}}
livenessProbe:
  httpGet: {path: /healthz/leader-election, port: {{ .port }}}
  initialDelaySeconds: 10
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 3
{{- end }}
