{{- define "plumbline.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* At most 52 characters: "-controller" and the hash of a Deployment's pods still fit into a label. */}}
{{- define "plumbline.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "plumbline.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Of cluster-wide objects: two releases in two namespaces have their own. */}}
{{- define "plumbline.clustername" -}}
{{ printf "%s-%s" .Release.Namespace (include "plumbline.fullname" .) }}
{{- end }}

{{- define "plumbline.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "plumbline.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: plumbline
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "plumbline.selector" -}}
app.kubernetes.io/name: {{ include "plumbline.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "plumbline.agent" -}}{{ include "plumbline.fullname" . }}-agent{{- end }}
{{- define "plumbline.controller" -}}{{ include "plumbline.fullname" . }}-controller{{- end }}
{{- define "plumbline.scraper" -}}{{ include "plumbline.fullname" . }}-scraper{{- end }}

{{/* Who has a certificate. */}}
{{- define "plumbline.certified" -}}
{{ include "plumbline.agent" . }} {{ include "plumbline.controller" . }}{{ if .Values.metrics.port }} {{ include "plumbline.scraper" . }}{{ end }}
{{- end }}

{{- define "plumbline.agent.serviceAccount" -}}
{{ default (ternary (include "plumbline.agent" .) "default" .Values.agent.serviceAccount.create) .Values.agent.serviceAccount.name }}
{{- end }}
{{- define "plumbline.controller.serviceAccount" -}}
{{ default (ternary (include "plumbline.controller" .) "default" .Values.controller.serviceAccount.create) .Values.controller.serviceAccount.name }}
{{- end }}

{{- define "plumbline.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- define "plumbline.agent.secret" -}}
{{- if eq .Values.tls.mode "existingSecret" }}{{ required "tls.agentSecret is needed with tls.mode existingSecret" .Values.tls.agentSecret }}{{ else }}{{ include "plumbline.agent" . }}-tls{{ end }}
{{- end }}
{{- define "plumbline.controller.secret" -}}
{{- if eq .Values.tls.mode "existingSecret" }}{{ required "tls.controllerSecret is needed with tls.mode existingSecret" .Values.tls.controllerSecret }}{{ else }}{{ include "plumbline.controller" . }}-tls{{ end }}
{{- end }}
{{- define "plumbline.scraper.secret" -}}
{{- if eq .Values.tls.mode "existingSecret" }}{{ required "tls.scraperSecret is needed with tls.mode existingSecret and metrics.port" .Values.tls.scraperSecret }}{{ else }}{{ include "plumbline.scraper" . }}-tls{{ end }}
{{- end }}

{{/* What certificates are for. Agents are asked by address, so that theirs has a name of its own. */}}
{{- define "plumbline.agent.serverName" -}}{{ include "plumbline.agent" . }}.{{ .Release.Namespace }}.svc{{- end }}
{{- define "plumbline.controller.serverName" -}}{{ include "plumbline.controller" . }}.{{ .Release.Namespace }}.svc{{- end }}

{{- define "plumbline.scraper.serverName" -}}{{ include "plumbline.scraper" . }}.{{ .Release.Namespace }}.svc{{- end }}

{{/* The configuration that both roles have. */}}
{{- define "plumbline.config" -}}
{{- if has (int .Values.metrics.port) (list (int .Values.agent.port) (int .Values.controller.port)) }}
{{- fail "metrics.port must be neither agent.port nor controller.port" }}
{{- end }}
{{- $own := dict "kubernetes" (dict "inCluster" true) }}
{{- if .Values.metrics.port }}
{{- $_ := set $own "web" (dict "metricsListenAddress" (printf ":%d" (int .Values.metrics.port)) "metricsConfigFile" "/etc/plumbline/config/metrics-web.yaml") }}
{{- end }}
{{- mergeOverwrite (deepCopy .Values.config) $own | toYaml }}
{{- end }}

{{- define "plumbline.agent.config" -}}
{{- $config := include "plumbline.config" . | fromYaml }}
{{- if eq .Values.authentication.agents "token" }}
{{- $web := merge (dict "authorization" "kubernetes" "audiences" (concat (list .Values.authentication.agentAudience) .Values.authentication.apiAudiences | uniq)) (default dict $config.web) }}
{{- $_ := set $config "web" $web }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- define "plumbline.controller.config" -}}
{{- $config := include "plumbline.config" . | fromYaml }}
{{- $name := include "plumbline.controller" . }}
{{- $hosts := list $name (printf "%s.%s" $name .Release.Namespace) (include "plumbline.controller.serverName" .) (printf "%s.cluster.local" (include "plumbline.controller.serverName" .)) }}
{{- $web := default dict $config.web }}
{{- $_ := set $web "allowedHosts" (concat $hosts (default list $web.allowedHosts) | uniq) }}
{{- $_ := set $web "authorization" "kubernetes" }}
{{- $_ := set $web "audiences" (concat (list .Values.authentication.audience) .Values.authentication.apiAudiences | uniq) }}
{{- $_ := set $config "web" $web }}
{{- $_ := unset $config "probes" }}
{{- $_ := unset $config "bpfRunSeconds" }}
{{- $tls := dict "caFile" "/etc/plumbline/tls/ca.crt" "serverName" (include "plumbline.agent.serverName" .) }}
{{- $controller := dict
      "discover" (dict "namespace" .Release.Namespace "port" (int .Values.agent.port)
        "selector" (printf "app.kubernetes.io/name=%s,app.kubernetes.io/instance=%s,app.kubernetes.io/component=agent" (include "plumbline.name" .) .Release.Name))
      "lease" (dict "namespace" .Release.Namespace "name" $name "duration" .Values.controller.leaseDuration)
      "timeout" .Values.controller.timeout "tls" $tls }}
{{- if eq .Values.authentication.agents "mtls" }}
{{- $_ := set $tls "certFile" "/etc/plumbline/tls/tls.crt" }}
{{- $_ := set $tls "keyFile" "/etc/plumbline/tls/tls.key" }}
{{- else }}
{{- $_ := set $controller "tokenFile" "/var/run/secrets/plumbline/token" }}
{{- end }}
{{- $_ := set $config "controller" $controller }}
{{- $_ := set $config "schedules" .Values.schedules }}
{{- toYaml $config }}
{{- end }}

{{/* What takes effect with a restart; all else is read again when it changes, and restarts nothing. */}}
{{- define "plumbline.restart" -}}
{{- $config := . | fromYaml }}
{{- $web := default dict $config.web }}
{{- $controller := default dict $config.controller }}
{{- dict "kubernetes" $config.kubernetes "probes" $config.probes "bpfRunSeconds" $config.bpfRunSeconds
      "authorization" $web.authorization "audiences" $web.audiences "lease" $controller.lease
      "metrics" (list $web.metricsListenAddress $web.metricsConfigFile) | toJson | sha256sum }}
{{- end }}

{{/* A user that nobody else is: privsep/user.go says why. */}}
{{- define "plumbline.user" -}}60811{{- end }}

{{/* Where the API server is, for whoever must not depend on the service proxy. */}}
{{- define "plumbline.env" -}}
{{- with .Values.kubernetesServiceHost -}}
- {name: KUBERNETES_SERVICE_HOST, value: {{ . | quote }}}
- {name: KUBERNETES_SERVICE_PORT, value: {{ $.Values.kubernetesServicePort | quote }}}
{{- end }}
{{- end }}

{{/* Kubernetes before 1.30 has an annotation for the profile, and no field. */}}
{{- define "plumbline.agent.appArmor" -}}
{{- $profile := .Values.agent.appArmorProfile -}}
{{- get (dict "Unconfined" "unconfined" "RuntimeDefault" "runtime/default" "Localhost" (printf "localhost/%s" $profile.localhostProfile)) $profile.type }}
{{- end }}

{{- define "plumbline.agent.capabilities" -}}
{{- concat (list "NET_ADMIN" "NET_RAW" "SETGID" "SETUID" "SYS_ADMIN" "SYS_PTRACE") .Values.agent.extraCapabilities | uniq | join ", " }}
{{- end }}

{{/* The kubelet has no certificate that agents accept, so that with mtls it only sees whether they listen. */}}
{{- define "plumbline.agent.healthy" -}}
{{- if eq .Values.authentication.agents "mtls" -}}
tcpSocket: {port: https}
{{- else -}}
httpGet: {scheme: HTTPS, path: /-/healthy, port: https}
{{- end }}
{{- end }}

{{/* Ready is who has collected state. */}}
{{- define "plumbline.agent.ready" -}}
{{ include "plumbline.agent.healthy" . | replace "/-/healthy" "/-/ready" }}
{{- end }}
