{{/* The reference of one of our images: (dict "root" $ "name" "csi") */}}
{{- define "shale.image" -}}
{{- $v := .root.Values -}}
{{- with $v.imageRegistry }}{{ . }}/{{ end }}{{ $v.image.prefix }}/{{ .name }}:{{ $v.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* The reference of a sidecar: (dict "root" $ "name" "sig-storage/x:tag") */}}
{{- define "shale.sidecar" -}}
{{- with .root.Values.imageRegistry }}{{ . }}/{{ end }}{{ .name }}
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
