{{- define "ayaflow.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "ayaflow.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "ayaflow.labels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- if .part }}
app.kubernetes.io/component: {{ .part }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ayaflow
{{- end }}

{{- define "ayaflow.image" -}}
{{- $image := .root.Values.image -}}
{{ with $image.registry }}{{ . }}/{{ end }}ayaflow-{{ .part }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* ayaflow.yaml of a part: where it listens in a pod, the settings of all, its own; the later wins */}}
{{- define "ayaflow.settings" -}}
{{- $values := index .root.Values .part -}}
{{- $listens := dict "producer" (dict "producer" (dict "metrics_listen" (printf ":%v" .root.Values.producer.metrics.port)))
     "streams" (dict "streams" (dict "metrics_listen" (printf ":%v" .root.Values.streams.metrics.port)))
     "console" (dict "console" (dict "listen" (printf ":%v" .root.Values.console.port)
       "producers" (list (printf "%s-producer:%v" (include "ayaflow.name" .root) .root.Values.producer.metrics.port))
       "streams" (list (printf "%s-streams:%v" (include "ayaflow.name" .root) .root.Values.streams.metrics.port)))) -}}
{{- mustMergeOverwrite (dict) (dict "log" (dict "format" "json")) (index $listens .part) (deepCopy .root.Values.settings) (deepCopy $values.settings) | toYaml }}
{{- end }}

{{- define "ayaflow.secret" -}}
{{- $secret := (index .root.Values .part).secret -}}
{{- if and $secret.name $secret.data }}{{ fail (printf "%s.secret: give name, of a Secret of yours, or data, not both" .part) }}{{ end -}}
{{- if $secret.data }}{{ include "ayaflow.name" .root }}-{{ .part }}{{ else }}{{ $secret.name }}{{ end -}}
{{- end }}

{{/* what pods of all parts have in common, above their containers */}}
{{- define "ayaflow.pod" -}}
{{- $values := index .root.Values .part -}}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "ayaflow.annotations" -}}
{{- $values := index .root.Values .part -}}
{{/* settings and secrets are read at the start: other ones are other pods */ -}}
checksum/settings: {{ include "ayaflow.settings" . | sha256sum }}
{{- with $values.secret.data }}
checksum/secret: {{ toJson . | sha256sum }}
{{- end }}
{{- with $values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* what no container of ours asks for */}}
{{- define "ayaflow.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "ayaflow.mounts" -}}
- {name: settings, mountPath: /etc/ayaflow, readOnly: true}
{{- if include "ayaflow.secret" . }}
- {name: secret, mountPath: /run/secrets/ayaflow, readOnly: true}
{{- end }}
- {name: data, mountPath: /var/lib/ayaflow}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "ayaflow.volumes" -}}
- name: settings
  configMap:
    name: {{ include "ayaflow.name" .root }}-{{ .part }}
{{- with include "ayaflow.secret" . }}
- name: secret
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
- name: tmp
  emptyDir: {}
{{- end }}
