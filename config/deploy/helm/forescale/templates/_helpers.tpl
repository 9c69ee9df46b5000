{{- define "forescale.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "forescale.fullname" -}}
{{- $name := include "forescale.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "forescale.selectorLabels" -}}
app.kubernetes.io/name: {{ include "forescale.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "forescale.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "forescale.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "forescale.serviceAccountName" -}}
{{- $default := ternary (include "forescale.fullname" .) "default" .Values.serviceAccount.create -}}
{{ default $default .Values.serviceAccount.name }}
{{- end }}

{{- define "forescale.subjects" -}}
- kind: ServiceAccount
  name: {{ include "forescale.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- define "forescale.configMapName" -}}
{{ default (include "forescale.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{- define "forescale.claimName" -}}
{{ default (printf "%s-journal" (include "forescale.fullname" .)) .Values.persistence.existingClaim }}
{{- end }}

{{- define "forescale.snapshotDirectory" -}}
{{ required "snapshots.existingClaim: requires daemon.snapshots.directory, where the claim is mounted" (dig "snapshots" "directory" "" .Values.daemon) }}
{{- end }}

{{- define "forescale.image" -}}
{{- with .Values.image }}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Port and scheme of the HTTP server, as daemon.listen and daemon.server.tls set them. */}}
{{- define "forescale.port" -}}
{{ required "daemon.listen: must be HOST:PORT, such as 0.0.0.0:8080" .Values.daemon.listen | splitList ":" | last }}
{{- end }}

{{- define "forescale.scheme" -}}
{{ ternary "https" "http" (dig "server" "tls" dict .Values.daemon | empty | not) }}
{{- end }}

{{- /* Ports of the servers for KEDA and HPAs, as daemon.partners sets them: a YAML mapping from name to number. */}}
{{- define "forescale.partnerPorts" -}}
{{- $partners := dig "partners" dict .Values.daemon | default dict -}}
{{- $defaults := dict "keda" "0.0.0.0:6000" "external_metrics" "0.0.0.0:6443" -}}
{{- $names := dict "keda" "keda" "external_metrics" "metrics-api" -}}
{{- range $server, $default := $defaults }}
{{- $settings := get $partners $server }}
{{- if kindIs "map" $settings }}
{{ get $names $server }}: {{ dig "listen" $default $settings | splitList ":" | last }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Prefix of volumes and ports. In the pod of another chart, plain names could already be in use. */}}
{{- define "forescale.prefix" -}}
{{ if .Values.sidecar }}forescale-{{ end }}
{{- end }}

{{- /* Labels of the pod that the cloud's identity needs. */}}
{{- define "forescale.identityLabels" -}}
{{- if .Values.identity.azureClientId -}}
azure.workload.identity/use: "true"
{{- end }}
{{- end }}

{{- /*
The daemon's container. As a sidecar it has no readiness probe, since a daemon that starts must not stop the pod's other
containers from serving. It then also carries the pod's security settings.
*/}}
{{- define "forescale.container" -}}
{{- $prefix := include "forescale.prefix" . -}}
{{- $port := printf "%shttp" $prefix -}}
{{- $scheme := ternary ", scheme: HTTPS" "" (include "forescale.scheme" . | eq "https") -}}
{{- $security := .Values.securityContext -}}
{{- if .Values.sidecar }}{{ $security = merge dict $security (omit .Values.podSecurityContext "fsGroup") }}{{ end -}}
name: forescale
image: {{ include "forescale.image" . | quote }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
args: [run, /etc/forescale]
ports:
  - {name: {{ $port }}, containerPort: {{ include "forescale.port" . }}}
  {{- range $name, $number := include "forescale.partnerPorts" . | fromYaml }}
  - {name: {{ $name }}, containerPort: {{ $number }}}
  {{- end }}
{{- $ha := kindIs "map" .Values.daemon.ha }}
{{- if or $ha .Values.env }}
env:
  {{- if $ha }}
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}} # for daemon.ha.peer_url
  {{- end }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if not .Values.sidecar }}
readinessProbe:
  httpGet: {path: /readyz, port: {{ $port }}{{ $scheme }}}
  periodSeconds: 5
{{- end }}
livenessProbe:
  httpGet: {path: /healthz, port: {{ $port }}{{ $scheme }}}
  periodSeconds: 10
  failureThreshold: 6
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- toYaml $security | nindent 2 }}
volumeMounts:
  - {name: {{ $prefix }}config, mountPath: /etc/forescale, readOnly: true}
  - {name: {{ $prefix }}journal, mountPath: /var/lib/forescale}
  {{- if .Values.snapshots.existingClaim }}
  - {name: {{ $prefix }}snapshots, mountPath: {{ include "forescale.snapshotDirectory" . | quote }}}
  {{- end }}
  {{- range .Values.secrets }}
  - {name: {{ $prefix }}{{ .name }}, mountPath: {{ .path | quote }}, readOnly: true}
  {{- end }}
{{- end }}

{{- /* The volumes of the daemon's container. */}}
{{- define "forescale.volumes" -}}
{{- $prefix := include "forescale.prefix" . -}}
- name: {{ $prefix }}config
  configMap: {name: {{ include "forescale.configMapName" . }}}
- name: {{ $prefix }}journal
{{- if or .Values.persistence.enabled .Values.persistence.existingClaim }}
  persistentVolumeClaim: {claimName: {{ include "forescale.claimName" . }}}
{{- else }}
  emptyDir: {sizeLimit: {{ .Values.persistence.size }}}
{{- end }}
{{- with .Values.snapshots.existingClaim }}
- name: {{ $prefix }}snapshots
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
{{- range .Values.secrets }}
- name: {{ $prefix }}{{ .name }}
  secret: {secretName: {{ .name }}}
{{- end }}
{{- end }}

{{- /*
A configuration document as YAML. Helm writes the number 0.0000001 as 1e-07, which is a text in YAML 1.1: it becomes
1.0e-07.
*/}}
{{- define "forescale.document" -}}
{{ regexReplaceAll "(?m)(: |- )(-?[0-9]+)(e[-+][0-9]+)$" (toYaml .) "${1}${2}.0${3}" }}
{{- end }}

{{- /* Rules of the daemon in a namespace: those of its pools, and of the workloads that it follows there. */}}
{{- define "forescale.rules" -}}
# Read the objects that are resized: one watch for all, and single reads while the watch is broken.
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch]
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets]
  verbs: [get, list, watch]
# Write sizes only.
- apiGroups: [apps]
  resources: [deployments/scale, statefulsets/scale]
  verbs: [patch]
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets/scale]
  verbs: [patch]
# Read zones, interruptions and failed starts of replicas.
- apiGroups: [""]
  resources: [pods, events]
  verbs: [list, watch]
# Write events about resizes, which `kubectl describe` shows.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Drain: remove pods from routing, and choose the pods that are deleted first.
- apiGroups: [""]
  resources: [pods]
  verbs: [patch]
# Reserve capacity on warm nodes.
- apiGroups: [autoscaling.x-k8s.io]
  resources: [capacitybuffers]
  verbs: [get, list, watch, patch]
# Detect other autoscalers of the same objects.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [list]
{{- with .Values.rbac.routes }}
{{- $names := . }}
# Read and set the weights of routes.
{{- range $group, $resource := dict "gateway.networking.k8s.io" "httproutes" "aigateway.envoyproxy.io" "aigatewayroutes" }}
- apiGroups: [{{ $group }}]
  resources: [{{ $resource }}]
  {{- if not (has "*" $names) }}
  resourceNames: {{ toJson $names }}
  {{- end }}
  verbs: [get, patch]
{{- end }}
{{- end }}
{{- with .Values.rbac.extraRules }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "forescale.workloadRules" -}}
{{- $followed := .Values.daemon.kubernetes_workloads -}}
{{- if dig "custom_resources" true $followed }}
# Objects of kind Workload. Their specification is only read.
- apiGroups: [forescale.io]
  resources: [workloads]
  verbs: [list, watch]
- apiGroups: [forescale.io]
  resources: [workloads/status]
  verbs: [patch]
{{- end }}
{{- if dig "config_maps" false $followed }}
# ConfigMaps with workload files. RBAC cannot limit this to labeled ones.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [list, watch]
{{- end }}
{{- end }}

{{- /* Namespaces of daemon.kubernetes_workloads, as a JSON object; ["*"] for all, [] without the setting. */}}
{{- define "forescale.followed" -}}
{{ dict "namespaces" (dig "namespaces" list (default dict .Values.daemon.kubernetes_workloads)) | toJson }}
{{- end }}
