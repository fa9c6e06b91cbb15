package charts

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/privsep"
	"github.com/plumbline-net/plumbline/schedules"
)

var chart = Open("..")

const (
	release   = "rel"
	namespace = "net"
)

// rendered is a release with one set of values.
type rendered struct {
	objects    []*unstructured.Unstructured
	agent      *appsv1.DaemonSet
	controller *appsv1.Deployment
	configs    map[string]map[string]string // data of ConfigMaps by component
	roles      map[string][]rbacv1.PolicyRule
	bindings   []rbacv1.ClusterRoleBinding
	policies   []networkingv1.NetworkPolicy
}

// types are what objects are read as: a field that they do not have is a mistake.
var types = map[string]func() any{
	"ConfigMap": func() any { return new(corev1.ConfigMap) }, "Secret": func() any { return new(corev1.Secret) },
	"Service": func() any { return new(corev1.Service) }, "ServiceAccount": func() any { return new(corev1.ServiceAccount) },
	"DaemonSet": func() any { return new(appsv1.DaemonSet) }, "Deployment": func() any { return new(appsv1.Deployment) },
	"PodDisruptionBudget": func() any { return new(policyv1.PodDisruptionBudget) }, "NetworkPolicy": func() any { return new(networkingv1.NetworkPolicy) },
	"ClusterRole": func() any { return new(rbacv1.ClusterRole) }, "ClusterRoleBinding": func() any { return new(rbacv1.ClusterRoleBinding) },
	"Role": func() any { return new(rbacv1.Role) }, "RoleBinding": func() any { return new(rbacv1.RoleBinding) },
	"Certificate": nil, "PodMonitor": nil, "PrometheusRule": nil, // kinds of operators
}

// renderings are what Helm has rendered, by its flags: tests ask for the same again, and
// change nothing.
var renderings = map[string]*rendered{}

func render(t *testing.T, args ...string) *rendered {
	t.Helper()
	key := strings.Join(args, " ")
	if r := renderings[key]; r != nil {
		return r
	}
	objects, err := chart.Render(t.Context(), release, namespace, args...)
	if err != nil {
		t.Fatal(err)
	}
	r := &rendered{objects: objects, configs: map[string]map[string]string{}, roles: map[string][]rbacv1.PolicyRule{}}
	for _, o := range objects {
		make, known := types[o.GetKind()]
		if !known {
			t.Fatalf("the chart renders a %s, which this test does not know", o.GetKind())
		}
		if make == nil {
			continue
		}
		typed := make()
		text, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(typed); err != nil {
			t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
		switch typed := typed.(type) {
		case *appsv1.DaemonSet:
			r.agent = typed
		case *appsv1.Deployment:
			r.controller = typed
		case *corev1.ConfigMap:
			r.configs[typed.Labels["app.kubernetes.io/component"]] = typed.Data
		case *rbacv1.ClusterRole:
			r.roles[typed.Name] = typed.Rules
		case *rbacv1.Role:
			r.roles[typed.Name] = typed.Rules
		case *rbacv1.ClusterRoleBinding:
			r.bindings = append(r.bindings, *typed)
		case *networkingv1.NetworkPolicy:
			r.policies = append(r.policies, *typed)
		}
	}
	renderings[key] = r
	return r
}

func (r *rendered) find(kind string) []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for _, o := range r.objects {
		if o.GetKind() == kind {
			found = append(found, o)
		}
	}
	return found
}

// values is the path of a set of values.
func values(name string) string { return filepath.Join(chart.Dir(), "ci", name+"-values.yaml") }

func with(name string) []string { return []string{"--values", values(name)} }

// everySet runs a test for each set of values.
func everySet(t *testing.T, test func(*testing.T, *rendered)) {
	files, err := chart.ValueFiles()
	if err != nil || len(files) < 4 {
		t.Fatalf("sets of values: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), "-values.yaml"), func(t *testing.T) { test(t, render(t, "--values", file)) })
	}
}

func TestHelmLints(t *testing.T) {
	files, err := chart.ValueFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if out, err := chart.Lint(t.Context(), file); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

func TestPodsHaveNoMorePrivilegesThanTheyNeed(t *testing.T) {
	everySet(t, func(t *testing.T, r *rendered) {
		for _, pod := range []*corev1.PodSpec{&r.agent.Spec.Template.Spec, &r.controller.Spec.Template.Spec} {
			if len(pod.Containers) != 1 || len(pod.InitContainers) != 0 {
				t.Fatalf("containers: %d, init containers: %d; want 1 and 0", len(pod.Containers), len(pod.InitContainers))
			}
			c := pod.Containers[0].SecurityContext
			if *c.Privileged || !*c.ReadOnlyRootFilesystem || *c.AllowPrivilegeEscalation || !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%s: security context %+v", pod.Containers[0].Name, c)
			}
			if p := pod.SecurityContext.SeccompProfile; p == nil || p.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%s: seccomp profile %v", pod.Containers[0].Name, p)
			}
			if pod.HostIPC {
				t.Errorf("%s: hostIPC", pod.Containers[0].Name)
			}
			for _, v := range pod.Volumes {
				if v.HostPath != nil {
					t.Errorf("%s: volume %s is a path of the host, and all that is needed there is reached through /proc", pod.Containers[0].Name, v.Name)
				}
			}
			for _, m := range pod.Containers[0].VolumeMounts {
				if !m.ReadOnly || m.SubPath != "" {
					t.Errorf("%s: mount %+v can be written to, or does not follow changes", pod.Containers[0].Name, m)
				}
			}
		}
		controller := &r.controller.Spec.Template.Spec
		if controller.HostPID || controller.HostNetwork || len(controller.Containers[0].SecurityContext.Capabilities.Add) != 0 || !*controller.SecurityContext.RunAsNonRoot {
			t.Errorf("the controller has privileges: %+v", controller.SecurityContext)
		}
		if !r.agent.Spec.Template.Spec.HostPID {
			t.Error("the agent does not see the host's processes")
		}
	})
}

func TestAgentsHaveTheCapabilitiesThatTheDocumentationNames(t *testing.T) {
	docs, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	// The table names those of which a test of e2e/roles shows that they are
	// needed, and that they are enough.
	_, table, _ := strings.Cut(string(docs), "## Privileges")
	table, _, _ = strings.Cut(table, "\n## ")
	var want []corev1.Capability
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[1], "agent") {
			continue
		}
		for _, match := range regexp.MustCompile("`CAP_([A-Z_]+)`").FindAllStringSubmatch(cells[2], -1) {
			want = append(want, corev1.Capability(match[1]))
		}
	}
	slices.Sort(want)
	if got := render(t).agent.Spec.Template.Spec.Containers[0].SecurityContext.Capabilities.Add; len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("capabilities are %v, want %v", got, want)
	}
}

// Under the profile that runtimes give containers, an agent sees no process of the host.
func TestAgentsAreNotConfined(t *testing.T) {
	const annotation = "container.apparmor.security.beta.kubernetes.io/agent"
	for _, test := range []struct {
		version, set string
		want         *corev1.AppArmorProfile
		annotation   string
	}{
		{"1.30.0", "", &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}, ""},
		{"1.30.0-eks-1", "", &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}, ""},
		{"1.29.9", "", nil, "unconfined"},
		{"1.30.0", "agent.appArmorProfile.type=RuntimeDefault", &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}, ""},
		{"1.29.9", "agent.appArmorProfile.type=RuntimeDefault", nil, "runtime/default"},
		{"1.29.9", "agent.appArmorProfile.type=Localhost,agent.appArmorProfile.localhostProfile=ours", nil, "localhost/ours"},
		{"1.30.0", "agent.appArmorProfile=null", nil, ""},
		{"1.29.9", "agent.appArmorProfile=null", nil, ""},
	} {
		pod := render(t, "--kube-version", test.version, "--set", test.set).agent.Spec.Template
		if got := pod.Spec.Containers[0].SecurityContext.AppArmorProfile; !reflect.DeepEqual(got, test.want) || pod.Annotations[annotation] != test.annotation {
			t.Errorf("Kubernetes %s, --set %q: profile %+v, annotation %q; want %+v, %q", test.version, test.set, got, pod.Annotations[annotation], test.want, test.annotation)
		}
	}
	ours := "ours"
	r := render(t, "--set", "agent.appArmorProfile.type=Localhost,agent.appArmorProfile.localhostProfile=ours,agent.seLinuxOptions.type=spc_t")
	c := r.agent.Spec.Template.Spec.Containers[0].SecurityContext
	if want := (&corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &ours}); !reflect.DeepEqual(c.AppArmorProfile, want) ||
		c.SELinuxOptions == nil || c.SELinuxOptions.Type != "spc_t" {
		t.Errorf("profile %+v, SELinux %+v", c.AppArmorProfile, c.SELinuxOptions)
	}
	if r := render(t); r.agent.Spec.Template.Spec.Containers[0].SecurityContext.SELinuxOptions != nil || r.controller.Spec.Template.Spec.Containers[0].SecurityContext.AppArmorProfile != nil {
		t.Error("what nobody asked for is set")
	}
}

// Whoever is the same user as another container on the node can read its files through
// /proc, and that one's.
func TestNobodyElseIsTheUserOfThePods(t *testing.T) {
	user := privsep.DefaultUser
	if user.UID != user.GID || user.UID <= 60705 || user.UID >= 61184 {
		t.Errorf("user %s: systemd has names for it, or images do", user)
	}
	r := render(t)
	for name, got := range map[string]*int64{
		"fsGroup of agents": r.agent.Spec.Template.Spec.SecurityContext.FSGroup, "fsGroup of controllers": r.controller.Spec.Template.Spec.SecurityContext.FSGroup,
		"user of controllers": r.controller.Spec.Template.Spec.SecurityContext.RunAsUser, "group of controllers": r.controller.Spec.Template.Spec.SecurityContext.RunAsGroup,
	} {
		if got == nil || *got != int64(user.UID) {
			t.Errorf("%s is %v, want %d", name, got, user.UID)
		}
	}
	for file, want := range map[string]string{
		"../Dockerfile": "\nUSER " + user.String() + "\n", "../hack/image-root.sh": ":x:" + user.String() + ":", "../docs/security.md": fmt.Sprintf("(user and group %d,", user.UID),
	} {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s (%v) lacks %q", file, err, want)
		}
	}
}

// The Service of the API server needs the service proxy that agents are to report about.
func TestTheAPIServerIsFoundWithoutTheServiceProxy(t *testing.T) {
	for _, test := range []struct {
		set  string
		want map[string]string
	}{
		{"", map[string]string{}},
		{"kubernetesServiceHost=192.0.2.1", map[string]string{"KUBERNETES_SERVICE_HOST": "192.0.2.1", "KUBERNETES_SERVICE_PORT": "6443"}},
		{"kubernetesServiceHost=api.example.com,kubernetesServicePort=443", map[string]string{"KUBERNETES_SERVICE_HOST": "api.example.com", "KUBERNETES_SERVICE_PORT": "443"}},
	} {
		r := render(t, "--set", test.set)
		for role, pod := range map[string]*corev1.PodSpec{"agent": &r.agent.Spec.Template.Spec, "controller": &r.controller.Spec.Template.Spec} {
			got := map[string]string{}
			for _, e := range pod.Containers[0].Env {
				if strings.HasPrefix(e.Name, "KUBERNETES_") {
					got[e.Name] = e.Value
				}
			}
			if !maps.Equal(got, test.want) {
				t.Errorf("--set %q: %s: environment %v, want %v", test.set, role, got, test.want)
			}
		}
	}
}

// sorted has one rule for each group, so that rules can be compared.
func sorted(rules []rbacv1.PolicyRule) map[string][]string {
	all := map[string][]string{}
	for _, r := range rules {
		for _, group := range append(r.APIGroups, r.NonResourceURLs...) {
			for _, resource := range append(r.Resources, r.NonResourceURLs...) {
				for _, verb := range r.Verbs {
					key := group + "/" + resource + strings.Join(r.ResourceNames, ",")
					all[key] = append(all[key], verb)
				}
			}
		}
	}
	for _, verbs := range all {
		slices.Sort(verbs)
	}
	return all
}

func TestRolesAreWhatTheCodeNeeds(t *testing.T) {
	r := render(t)
	ofAgents := []rbacv1.PolicyRule{
		{APIGroups: []string{"plumbline.net"}, Resources: []string{"snapshots"}, Verbs: []string{"get"}},
		{APIGroups: []string{"plumbline.net"}, Resources: []string{"probes"}, Verbs: []string{"create"}},
		{APIGroups: []string{"plumbline.net"}, Resources: []string{"leaders"}, Verbs: []string{"update"}},
	}
	for name, want := range map[string][]rbacv1.PolicyRule{
		"net-rel-plumbline-agent":      kubernetes.NodeRules(),
		"net-rel-plumbline-controller": append(kubernetes.WatcherRules(), ofAgents...),
		"rel-plumbline-controller":     kubernetes.LeaseRules("rel-plumbline-controller"),
	} {
		if diff := cmp.Diff(sorted(want), sorted(r.roles[name])); diff != "" {
			t.Errorf("role %s (-code +chart):\n%s", name, diff)
		}
	}
	// The documentation says the same.
	docs, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(docs), "```yaml\nrules:")
	text, _, _ = strings.Cut(text, "```")
	var documented struct{ Rules []rbacv1.PolicyRule }
	if err := yaml.UnmarshalStrict([]byte("rules:"+text), &documented); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sorted(kubernetes.WatcherRules()), sorted(documented.Rules)); diff != "" {
		t.Errorf("docs/configuration.md (-code +docs):\n%s", diff)
	}
	everySet(t, func(t *testing.T, r *rendered) {
		for name, rules := range r.roles {
			for _, rule := range rules {
				if slices.Contains(rule.Resources, "secrets") || slices.Contains(slices.Concat(rule.Verbs, rule.Resources, rule.APIGroups), "*") {
					t.Errorf("%s: %+v", name, rule)
				}
			}
		}
	})
}

// config is what the program reads of the files that are mounted for a role.
func (r *rendered) config(t *testing.T, role string) *schedules.Config {
	t.Helper()
	dir := t.TempDir()
	for name, text := range r.configs[role] {
		text = strings.ReplaceAll(text, "/etc/plumbline/config", dir)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, err := schedules.Load(filepath.Join(dir, "plumbline.yaml"))
	if err != nil {
		t.Fatalf("%s: %v", role, err)
	}
	return config
}

func TestTheProgramReadsTheConfiguration(t *testing.T) {
	everySet(t, func(t *testing.T, r *rendered) {
		for _, role := range []string{"agent", "controller"} {
			config := r.config(t, role)
			if !config.Kubernetes.InCluster {
				t.Errorf("%s: not in the cluster", role)
			}
			if role == "agent" {
				continue
			}
			if config.Web.Authorization == "" {
				t.Error("the controller asks nobody who they are")
			}
			if !config.Controller.Discover.Selector.Matches(labels.Set(r.agent.Spec.Template.Labels)) {
				t.Errorf("the selector %s does not find agents", config.Controller.Discover.Selector)
			}
			if config.Controller.Discover.Selector.Matches(labels.Set(r.controller.Spec.Template.Labels)) {
				t.Errorf("the selector %s takes controllers for agents", config.Controller.Discover.Selector)
			}
			if port := r.agent.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort; int32(config.Controller.Discover.Port) != port {
				t.Errorf("agents are asked at %d and listen at %d", config.Controller.Discover.Port, port)
			}
		}
	})
	config := render(t, with("monitored")...).config(t, "controller")
	if len(config.Schedules) != 2 || config.SnapshotMaxAge.String() != "2m0s" || !slices.Contains(config.Web.AllowedHosts, "plumbline.example.com") {
		t.Errorf("values are not in the configuration: %+v", config)
	}
}

func TestAgentsKnowControllersByTokenOrCertificate(t *testing.T) {
	byToken, byCertificate := render(t), render(t, with("mtls")...)
	config := byToken.config(t, "agent")
	if config.Web.Authorization != "kubernetes" || !slices.Contains(config.Web.Audiences, "plumbline-agent") {
		t.Errorf("token: %+v", config.Web)
	}
	// An agent is shown it, and could show it to a controller.
	if audiences := byToken.config(t, "controller").Web.Audiences; slices.Contains(audiences, "plumbline-agent") || !slices.Contains(audiences, "plumbline") {
		t.Errorf("controllers accept tokens for %q", audiences)
	}
	var source *corev1.ServiceAccountTokenProjection
	for _, v := range byToken.controller.Spec.Template.Spec.Volumes {
		if v.Projected != nil {
			source = v.Projected.Sources[0].ServiceAccountToken
		}
	}
	if source == nil || source.Audience != "plumbline-agent" {
		t.Errorf("the controller's token is %+v", source)
	}
	if web := byCertificate.configs["agent"]["web.yaml"]; !strings.Contains(web, "client_auth_type: RequireAndVerifyClientCert") ||
		!strings.Contains(web, "client_allowed_sans: [paths-controller.net.svc]") {
		t.Errorf("mtls: %s", web)
	}
	// An agent that asks the API server nothing may ask it nothing.
	for _, b := range byCertificate.bindings {
		for _, s := range b.Subjects {
			if b.RoleRef.Name == "system:auth-delegator" && s.Name == "paths-agent" {
				t.Error("mtls: agents may review tokens")
			}
		}
	}
}

func TestOnlyWhatNeedsARestartRestarts(t *testing.T) {
	const annotation = "plumbline.net/restart"
	hash := func(args ...string) [2]string {
		r := render(t, args...)
		return [2]string{r.agent.Spec.Template.Annotations[annotation], r.controller.Spec.Template.Annotations[annotation]}
	}
	before := hash()
	if before[0] == "" || before[1] == "" {
		t.Fatal("there is no annotation")
	}
	if now := hash("--set", "config.snapshotMaxAge=1m", "--set-json", `schedules=[{"name":"a","cron":"@hourly","from":"10.0.0.1","to":"10.0.0.2","port":1}]`); now != before {
		t.Error("what is read again when it changes causes a restart")
	}
	if now := hash("--set", "config.probes.maxSeries=10"); now[0] == before[0] || now[1] != before[1] {
		t.Error("probes are of agents, and take effect with a restart")
	}
	if now := hash("--set", "controller.leaseDuration=20s"); now[0] != before[0] || now[1] == before[1] {
		t.Error("the lease is of controllers, and takes effect with a restart")
	}
}

func TestMonitorsKeepTheLabelsOfMetrics(t *testing.T) {
	for _, set := range []string{"monitored", "mtls"} {
		monitors := render(t, with(set)...).find("PodMonitor")
		if len(monitors) != 2 {
			t.Fatalf("%s: %d PodMonitors, want 2", set, len(monitors))
		}
		for _, m := range monitors {
			endpoints, _, _ := unstructured.NestedSlice(m.Object, "spec", "podMetricsEndpoints")
			endpoint := endpoints[0].(map[string]any)
			if endpoint["honorLabels"] != true || endpoint["scheme"] != "https" {
				t.Errorf("%s: %v", m.GetName(), endpoint)
			}
			_, token := endpoint["authorization"]
			_, certificate := endpoint["tlsConfig"].(map[string]any)["cert"]
			if token == certificate {
				t.Errorf("%s: Prometheus proves who it is by token: %t, by certificate: %t", m.GetName(), token, certificate)
			}
		}
	}
}

func TestRulesAndDashboardsAreThoseOfTheRepository(t *testing.T) {
	same := func(dir, pattern string) {
		t.Helper()
		var want []string
		for _, root := range []string{filepath.Join("../dashboards", dir), filepath.Join(chart.Dir(), "files", dir)} {
			files, err := filepath.Glob(filepath.Join(root, pattern))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, file := range files {
				if strings.HasSuffix(file, "_test.yaml") {
					continue
				}
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, filepath.Base(file)+"\n"+string(text))
			}
			if want != nil && !slices.Equal(got, want) {
				t.Errorf("%s: other files than in dashboards/: run hack/chart-files.sh", root)
			}
			want = got
		}
		if len(want) == 0 {
			t.Errorf("no file is %s/%s", dir, pattern)
		}
	}
	same(".", "*.json")
	same("rules", "*.yaml")

	r := render(t, with("monitored")...)
	var file, object map[string]any
	text, err := os.ReadFile("../dashboards/rules/plumbline.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	rules := r.find("PrometheusRule")
	if len(rules) != 1 {
		t.Fatalf("%d PrometheusRules", len(rules))
	}
	if object, _, _ = unstructured.NestedMap(rules[0].Object, "spec"); !reflect.DeepEqual(object, file) {
		t.Errorf("the rules are other ones:\n%s", cmp.Diff(file, object))
	}
	text, err = os.ReadFile("../dashboards/plumbline-paths.json")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.configs[""]["plumbline-paths.json"]; strings.TrimSpace(got) != strings.TrimSpace(string(text)) {
		t.Error("the dashboard is another one")
	}
}

func TestAgentsRunOnEveryNode(t *testing.T) {
	pod := render(t).agent.Spec.Template.Spec
	if !slices.ContainsFunc(pod.Tolerations, func(t corev1.Toleration) bool {
		return t.Operator == corev1.TolerationOpExists && t.Key == "" && t.Effect == ""
	}) {
		t.Errorf("tolerations %v", pod.Tolerations)
	}
	if !slices.ContainsFunc(pod.Containers[0].Env, func(e corev1.EnvVar) bool {
		return e.Name == "NODE_NAME" && e.ValueFrom.FieldRef.FieldPath == "spec.nodeName"
	}) {
		t.Error("an agent does not know which node it is on")
	}
}

func TestPoliciesLetInWhoHasBusiness(t *testing.T) {
	if n := len(render(t).policies); n != 1 {
		t.Errorf("%d policies, want that of the controller", n)
	}
	policies := render(t, with("mtls")...).policies
	if len(policies) != 2 {
		t.Fatalf("%d policies, want those of both roles", len(policies))
	}
	type entry struct {
		port  string
		peers int
	}
	for _, p := range policies {
		var got []entry
		for _, rule := range p.Spec.Ingress {
			for _, port := range rule.Ports {
				got = append(got, entry{port.Port.String(), len(rule.From)})
			}
		}
		want := map[string][]entry{"paths-controller": {{"https", 1}, {"metrics", 1}}, "paths-agent": {{"https", 1}, {"metrics", 1}}}[p.Name]
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", p.Name, got, want)
		}
	}
	// Where metrics are beside the API, who scrapes gets to it.
	for _, p := range render(t, append(with("mtls"), "--set", "metrics.port=0,monitoring.podMonitor.enabled=false")...).policies {
		if want := map[string]int{"paths-controller": 1, "paths-agent": 2}[p.Name]; len(p.Spec.Ingress) != 1 || len(p.Spec.Ingress[0].From) != want {
			t.Errorf("%s: %+v, want %d peers", p.Name, p.Spec.Ingress, want)
		}
	}
}

func TestMetricsMayHaveAPortOfTheirOwn(t *testing.T) {
	own := []string{"--set", "metrics.port=9812,monitoring.podMonitor.enabled=true"}
	beside, r := render(t), render(t, own...)
	if config := beside.config(t, "agent"); config.Web.MetricsListenAddress != "" {
		t.Errorf("without: %+v", config.Web)
	}
	if n := len(r.find("Secret")) - len(beside.find("Secret")); n != 1 {
		t.Errorf("%d more secrets, want that of who scrapes", n)
	}
	for role, pod := range map[string]*corev1.PodSpec{"agent": &r.agent.Spec.Template.Spec, "controller": &r.controller.Spec.Template.Spec} {
		config := r.config(t, role)
		web, err := os.ReadFile(config.Web.MetricsConfigFile)
		if err != nil {
			t.Fatal(err)
		}
		if config.Web.MetricsListenAddress != ":9812" || config.Web.Authorization != "kubernetes" ||
			!strings.Contains(string(web), "client_auth_type: RequireAndVerifyClientCert\n") || !strings.Contains(string(web), "client_allowed_sans: [rel-plumbline-scraper.net.svc]\n") {
			t.Errorf("%s: %+v\n%s", role, config.Web, web)
		}
		if ports := pod.Containers[0].Ports; len(ports) != 2 || ports[1].Name != "metrics" || ports[1].ContainerPort != 9812 {
			t.Errorf("%s: ports %+v", role, ports)
		}
	}
	for _, m := range r.find("PodMonitor") {
		endpoints, _, _ := unstructured.NestedSlice(m.Object, "spec", "podMetricsEndpoints")
		endpoint := endpoints[0].(map[string]any)
		key, _, _ := unstructured.NestedString(endpoint, "tlsConfig", "keySecret", "name")
		if endpoint["port"] != "metrics" || endpoint["authorization"] != nil || key != "rel-plumbline-scraper-tls" {
			t.Errorf("%s: %v", m.GetName(), endpoint)
		}
	}
	if before, now := beside.agent.Spec.Template.Annotations, r.agent.Spec.Template.Annotations; before["plumbline.net/restart"] == now["plumbline.net/restart"] {
		t.Error("the port takes effect with a restart, which nothing causes")
	}
}

// lookedUp is the API server of a cluster that has these secrets, as far as Helm asks
// when it renders; what comes back are Helm's flags to ask there.
func lookedUp(t *testing.T, secrets map[string]*unstructured.Unstructured) []string {
	t.Helper()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux := http.NewServeMux()
	serve := func(path string, v map[string]any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { answer(w, v) })
	}
	// Helm asks which kinds there are: those of the chart.
	kinds, groups := map[schema.GroupVersion][]any{}, []any{}
	for _, o := range render(t).objects {
		of := o.GroupVersionKind()
		kinds[of.GroupVersion()] = append(kinds[of.GroupVersion()], map[string]any{"name": strings.ToLower(of.Kind) + "s", "namespaced": o.GetNamespace() != "", "kind": of.Kind, "verbs": []string{"get"}})
	}
	for gv, resources := range kinds {
		path := "/apis/" + gv.String()
		if gv.Group == "" {
			path = "/api/v1"
		} else {
			version := map[string]any{"groupVersion": gv.String(), "version": gv.Version}
			groups = append(groups, map[string]any{"name": gv.Group, "versions": []any{version}, "preferredVersion": version})
		}
		serve(path, map[string]any{"kind": "APIResourceList", "groupVersion": gv.String(), "resources": resources})
	}
	serve("/apis", map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
	serve("/api", map[string]any{"kind": "APIVersions", "versions": []string{"v1"}})
	serve("/version", map[string]any{"major": "1", "minor": "33", "gitVersion": "v1.33.0"})
	mux.HandleFunc("/api/v1/namespaces/"+namespace+"/secrets/{name}", func(w http.ResponseWriter, r *http.Request) {
		if secret := secrets[r.PathValue("name")]; secret != nil {
			answer(w, secret)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		answer(w, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return []string{"--dry-run=server", "--is-upgrade", "--disable-openapi-validation", "--kube-apiserver", server.URL, "--kube-token", "none", "--kubeconfig", os.DevNull}
}

// What a release has keeps its certificate when another one comes to it: pods have them
// mounted, and others know them.
func TestOnlyCertificatesThatAreMissingAreMade(t *testing.T) {
	secrets := map[string]*unstructured.Unstructured{}
	names := []string{"rel-plumbline-agent-tls", "rel-plumbline-controller-tls", "rel-plumbline-scraper-tls"}
	upgrade := func(set string) map[string]map[string]string {
		t.Helper()
		data := map[string]map[string]string{}
		for _, secret := range render(t, append(lookedUp(t, secrets), "--set", set)...).find("Secret") {
			secrets[secret.GetName()] = secret
			data[secret.GetName()], _, _ = unstructured.NestedStringMap(secret.Object, "data")
		}
		return data
	}
	trusted := func(data map[string]map[string]string) {
		t.Helper()
		for _, by := range data {
			roots := x509.NewCertPool()
			ca, _ := base64.StdEncoding.DecodeString(by["ca.crt"])
			if !roots.AppendCertsFromPEM(ca) {
				t.Fatalf("ca.crt is %q", ca)
			}
			for name, of := range data {
				text, _ := base64.StdEncoding.DecodeString(of["tls.crt"])
				block, _ := pem.Decode(text)
				if block == nil {
					t.Fatalf("%s: tls.crt is %q", name, text)
				}
				certificate, err := x509.ParseCertificate(block.Bytes)
				if err == nil {
					_, err = certificate.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
	first := upgrade("metrics.port=0")
	trusted(first)
	if again := upgrade("metrics.port=0"); len(first) != 2 || !reflect.DeepEqual(first, again) {
		t.Errorf("an upgrade that changes nothing changes the secrets %v", slices.Collect(maps.Keys(again)))
	}
	second := upgrade("metrics.port=9812")
	trusted(second)
	if got := slices.Sorted(maps.Keys(second)); !slices.Equal(got, names) {
		t.Fatalf("secrets %v, want %v", got, names)
	}
	for _, name := range names[:2] {
		if second[name]["tls.crt"] != first[name]["tls.crt"] || second[name]["tls.key"] != first[name]["tls.key"] {
			t.Errorf("%s has another certificate", name)
		}
	}
	if again := upgrade("metrics.port=9812"); !reflect.DeepEqual(second, again) {
		t.Error("an upgrade that changes nothing changes the secrets with an authority more")
	}
}

// An agent that lives and has no state to show is not ready.
func TestAgentsAreReadyWhenTheyHaveState(t *testing.T) {
	for set, want := range map[string][2]string{"token": {"/-/healthy", "/-/ready"}, "mtls": {"", ""}} {
		c := render(t, "--set", "authentication.agents="+set).agent.Spec.Template.Spec.Containers[0]
		path := func(p *corev1.Probe) string {
			if p.HTTPGet == nil {
				return "" // whether it listens
			}
			return p.HTTPGet.Path
		}
		if got := [2]string{path(c.LivenessProbe), path(c.ReadinessProbe)}; got != want || path(c.StartupProbe) != want[0] {
			t.Errorf("%s: probes ask %q, and %q at the start; want %q", set, got, path(c.StartupProbe), want)
		}
	}
}

func TestSelectorsFindTheirPodsAndNoOthers(t *testing.T) {
	everySet(t, func(t *testing.T, r *rendered) {
		matches := func(selector, of map[string]string) bool {
			return len(selector) > 0 && labels.SelectorFromSet(selector).Matches(labels.Set(of))
		}
		agent, controller := r.agent.Spec.Template.Labels, r.controller.Spec.Template.Labels
		if s := r.agent.Spec.Selector.MatchLabels; !matches(s, agent) || matches(s, controller) {
			t.Errorf("the DaemonSet selects by %v", s)
		}
		if s := r.controller.Spec.Selector.MatchLabels; !matches(s, controller) || matches(s, agent) {
			t.Errorf("the Deployment selects by %v", s)
		}
		for _, o := range r.find("Service") {
			if s, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector"); !matches(s, controller) || matches(s, agent) {
				t.Errorf("the Service selects by %v", s)
			}
		}
		for _, o := range r.objects {
			if o.GetLabels()["app.kubernetes.io/managed-by"] != "Helm" || o.GetLabels()["app.kubernetes.io/instance"] != release {
				t.Errorf("%s %s has the labels %v", o.GetKind(), o.GetName(), o.GetLabels())
			}
		}
	})
}

func TestBadValuesAreRefused(t *testing.T) {
	for _, test := range []struct{ set, says string }{
		{"agnet.port=1", "agnet"},
		{"agent.prot=1", "prot"},
		{"agent.port=70000", "agent.port|/agent/port"},
		{"agent.port=1023", "agent.port|/agent/port"}, // without privileges nobody listens there
		{"controller.port=1023", "controller.port|/controller/port"},
		{"metrics.port=1023", "metrics.port|/metrics/port"},
		{"metrics.port=9810", "metrics.port must be neither agent.port nor controller.port"},
		{"metrics.port=9811", "metrics.port must be neither agent.port nor controller.port"},
		{"authentication.agents=mtls,monitoring.podMonitor.enabled=true,monitoring.podMonitor.tokenSecret.name=a", "metrics.port is needed for monitoring.podMonitor with authentication.agents mtls"},
		{"tls.mode=magic", "tls.mode|/tls/mode"},
		{"config.kubernetes.inCluster=false", "kubernetes"},
		{"config.probes.enabled=yes", "enabled"},
		{"controller.leaseDuration=15", "leaseDuration"},
		{"agent.appArmorProfile.type=unconfined", "appArmorProfile"},
		{"agent.seLinuxOptions.tpye=spc_t", "tpye"},
		{"tls.mode=existingSecret", "Secret is needed with tls.mode existingSecret"},
		{"tls.mode=certManager", "tls.certManager.issuerRef is needed"},
		{"tls.certManager.issuerRef.nmae=a", "nmae"},
		{"monitoring.podMonitor.enabled=true", "tokenSecret.name is needed"},
	} {
		_, err := chart.Render(t.Context(), release, namespace, "--set", test.set)
		if err == nil || !regexp.MustCompile(test.says).MatchString(err.Error()) {
			t.Errorf("--set %s: %v; want an error with %s", test.set, err, test.says)
		}
	}
}

// TestTheSchemaSaysWhatEachValueMeans and knows all of them.
func TestTheSchemaSaysWhatEachValueMeans(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chart.Dir(), "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		t.Fatal(err)
	}
	var walk func(at string, schema map[string]any, value any)
	walk = func(at string, schema map[string]any, value any) {
		if schema["description"] == "" || schema["description"] == nil {
			t.Errorf("%s has no description", at)
		}
		properties, ok := schema["properties"].(map[string]any)
		if !ok {
			return
		}
		if schema["additionalProperties"] != false {
			t.Errorf("%s takes what it does not know", at)
		}
		given, _ := value.(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			walk(at+"."+name, properties[name].(map[string]any), given[name])
			if _, ok := given[name]; !ok && at != "" && !strings.HasPrefix(at, ".config") && at != ".tls.certManager.issuerRef" {
				t.Errorf("values.yaml does not show %s.%s", at, name)
			}
		}
	}
	walk("", schemaOfValues(t), values)
}

func TestThePackageHasNoTestFiles(t *testing.T) {
	ignore, err := fs.ReadFile(os.DirFS(chart.Dir()), ".helmignore")
	if err != nil || !strings.Contains(string(ignore), "ci/\n") {
		t.Errorf(".helmignore: %v %s", err, ignore)
	}
}
