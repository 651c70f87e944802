{{- define "tcp-close.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tcp-close.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "tcp-close.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tcp-close.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tcp-close.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tcp-close.selector" -}}
app.kubernetes.io/name: {{ include "tcp-close.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tcp-close.labels" -}}
{{ include "tcp-close.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tcp-close.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Left out where the runtime's own profile is meant: it applies by itself where there is AppArmor, and a node without
     AppArmor turns away whoever asks for one. */}}
{{- define "tcp-close.appArmor" -}}
{{- if .Values.appArmorProfile -}}
{{- .Values.appArmorProfile -}}
{{- else if eq .Values.privileges "full" -}}
Unconfined
{{- end -}}
{{- end -}}

{{/* What a probe asks. A web configuration may want a password on every path, and then it is enough that the daemon
     listens, which it does once its hooks are attached. */}}
{{- define "tcp-close.ask" -}}
{{- $everywhere := has .root.Values.web.listenAddress (list "" "0.0.0.0" "::" "[::]") -}}
{{- if .root.Values.webConfig.existingSecret }}
tcpSocket:
{{- else }}
httpGet:
  path: {{ .path }}
{{- end }}
  port: metrics
{{- if not $everywhere }}
  host: {{ .root.Values.web.listenAddress | trimPrefix "[" | trimSuffix "]" | quote }}
{{- end }}
{{- end -}}
