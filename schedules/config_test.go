package schedules

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// one is a schedule that is right but for the lines that are put into it.
func one(lines ...string) string {
	text := "schedules:\n- name: a\n  cron: '@every 30s'\n  from: pod:shop/web-0\n  to: svc:shop/api\n"
	for _, line := range lines {
		text += "  " + line + "\n"
	}
	return text
}

func TestABadConfigurationIsRefusedNamingFileLineAndToken(t *testing.T) {
	const endpoints = "expected pod:NAMESPACE/NAME, node:NAME, svc:NAMESPACE/NAME, ns:NETNS, dns:NAME or an IP address, or pods:NAMESPACE?LABELS"
	tests := []struct {
		name, text, want string
	}{
		{
			"text that is not YAML", "schedules:\n- name: a\n  cron: \"unclosed\n",
			`p.yaml:3: found unexpected end of stream`,
		},
		{"a tab for indentation", "schedules:\n\t- name: a\n", `p.yaml:2: found character that cannot start any token`},
		{
			"an agent that is asked in the clear", "controller: {agents: [{node: a, url: 'http://10.0.0.1:9811'}]}\n",
			`p.yaml:1: controller.agents[0].url: "http://10.0.0.1:9811": is not https, which is for agents beyond loopback`,
		},
		{
			"an agent that is nowhere", "controller: {agents: [{node: a, url: 10.0.0.1}]}\n",
			`p.yaml:1: controller.agents[0].url: "10.0.0.1": is not a URL such as https://10.0.0.1:9811`,
		},
		{"an agent of no node", "controller: {agents: [{url: 'https://10.0.0.1'}]}\n", `p.yaml:1: controller.agents[0]: needs a node and a url`},
		{
			"two agents of one node", "controller:\n  agents:\n  - {node: a, url: 'https://b'}\n  - {node: a, url: 'https://c'}\n",
			`p.yaml:4: controller.agents[1].node: "a": the agent in line 3 is of this node`,
		},
		{"a certificate without its key", "controller: {tls: {certFile: a}}\n", `p.yaml:1: controller.tls: certFile and keyFile need each other`},
		{
			"a lease that nobody has", "controller: {lease: {namespace: a, name: b}}\n",
			`p.yaml:1: controller.lease: needs the API server that has the lease: kubernetes.kubeconfig or kubernetes.inCluster`,
		},
		{"a lease without a name", "controller: {lease: {namespace: a}}\n", `p.yaml:1: controller.lease: needs a namespace and a name`},
		{"agents that are any pods", "controller: {discover: {namespace: a, selector: '', port: 1}}\n", `p.yaml:1: controller.discover.selector: "": selects every pod`},
		{"agents without a port", "controller: {discover: {namespace: a, selector: app=b}}\n", `p.yaml:1: controller.discover: needs a namespace, a selector and a port`},
		{"an authorization that is none", "web: {authorization: nobody}\n", `p.yaml:1: web.authorization: "nobody": is not kubernetes or loopback`},
		{
			"an authorization without an API server", "web: {authorization: kubernetes}\n",
			`p.yaml:1: web.authorization: needs the API server that decides: kubernetes.kubeconfig or kubernetes.inCluster`,
		},
		{"an address of the metrics that is none", "web: {metricsListenAddress: here}\n", `p.yaml:1: web.metricsListenAddress: "here": is not HOST:PORT`},
		{"a file for metrics that have no address", "web: {metricsConfigFile: /dev/null}\n", `p.yaml:1: web.metricsConfigFile: needs web.metricsListenAddress`},
		{"a limit that lets nothing through", "web: {confirmsPerSecond: 0}\n", `p.yaml:1: web.confirmsPerSecond: "0": is not a whole number from 1 to 1000000`},
		{"a list at the top", "- name: a\n", `p.yaml:1: a list is not a mapping of keys to values`},
		{"a text at the top", "hello\n", `p.yaml:1: "hello" is not a mapping of keys to values`},
		{"two documents", "history: 1\n---\nhistory: 2\n", `p.yaml:2: a second YAML document; only one is allowed`},
		{
			"an unknown key at the top", "history: 1\nscedules: []\n",
			`p.yaml:2: scedules: unknown key; known keys are bpfRunSeconds, cloud, collector, confirm, controller, history, jitter, kubernetes, maxPathSeries, node, probes, schedules, snapshotMaxAge, web`,
		},
		{"a key given twice", "history: 1\njitter: 0\nhistory: 2\n", `p.yaml:3: history: given twice, first in line 1`},
		{"a merge key", "web: &w {}\ncollector:\n  <<: *w\n", `p.yaml:3: collector.<<: unknown key; known keys are manifests, maxAge, namespaces`},
		{"two ways to the API server", "history: 1\nkubernetes: {kubeconfig: /dev/null, inCluster: true}\n", `p.yaml:2: kubernetes: kubeconfig and inCluster exclude each other`},
		{"a kubeconfig that is not there", "kubernetes:\n  kubeconfig: /nonexistent/config\n", `p.yaml:2: kubernetes.kubeconfig: "/nonexistent/config": no such file`},
		{"objects from two places", "collector: {manifests: /}\nkubernetes: {inCluster: true}\n", `p.yaml:1: collector.manifests: "/": the objects of the cluster come from kubernetes, or from manifests`},
		{"schedules that are no list", "schedules: none\n", `p.yaml:1: schedules: "none" is not a list`},
		{"a schedule that is no mapping", "schedules:\n- a\n", `p.yaml:2: schedules[0]: "a" is not a mapping of keys to values`},
		{
			"an unknown key in a schedule", one("port: 80", "retries: 3"),
			`p.yaml:7: schedules[0].retries: unknown key; known keys are confirm, cron, dscp, expect, from, icmpType, mark, name, port, protocol, size, sourcePort, to, uid, via`,
		},
		{"no name", "schedules:\n- cron: '@hourly'\n  from: node:a\n  to: node:b\n  port: 1\n", `p.yaml:2: schedules[0]: name is missing`},
		{"no cron", "schedules:\n- name: a\n", `p.yaml:2: schedules[0]: cron is missing`},
		{"no from", "schedules:\n- name: a\n  cron: '@hourly'\n  to: node:b\n", `p.yaml:2: schedules[0]: from is missing`},
		{"no to", "schedules:\n- name: a\n  cron: '@hourly'\n  from: node:b\n", `p.yaml:2: schedules[0]: to is missing`},
		{"an empty schedule", "schedules:\n-\n", `p.yaml:2: schedules[0]: name is missing`},
		{
			"a name with a blank", "schedules:\n- name: web to api\n",
			`p.yaml:2: schedules[0].name: "web to api": a name has 1 to 63 letters, digits, '-', '_' and '.', and begins with a letter or digit`,
		},
		{"a name that is a list", "schedules:\n- name: [a]\n", `p.yaml:2: schedules[0].name: a list is not a single value`},
		{"a name without a value", "schedules:\n- name:\n", `p.yaml:2: schedules[0].name: no value is not a single value`},
		{
			"the same name twice", one("port: 80") + strings.TrimPrefix(one("port: 81"), "schedules:\n"),
			`p.yaml:7: schedules[1].name: "a": the schedule in line 2 has this name`,
		},
		{
			"a cron step beyond the range", "schedules:\n- name: a\n  cron: \"*/1 61 * * *\"\n",
			`p.yaml:3: schedules[0].cron: "*/1 61 * * *": end of range (61) above maximum (23): 61`,
		},
		{
			"a cron expression of four fields", "schedules:\n- name: a\n  cron: \"* * * *\"\n",
			`p.yaml:3: schedules[0].cron: "* * * *": expected 5 to 6 fields, found 4: [* * * *]`,
		},
		{"a date that never comes", "schedules:\n- name: a\n  cron: 0 0 30 2 *\n", `p.yaml:3: schedules[0].cron: "0 0 30 2 *": no such date ever comes`},
		{"a period without a unit", "schedules:\n- name: a\n  cron: '@every 30'\n", `p.yaml:3: schedules[0].cron: "@every 30": failed to parse duration @every 30: time: missing unit in duration "30"`},
		{"a period below a second", "schedules:\n- name: a\n  cron: '@every 100ms'\n", `p.yaml:3: schedules[0].cron: "@every 100ms": 100ms is less than a second`},
		{"an unknown descriptor", "schedules:\n- name: a\n  cron: '@often'\n", `p.yaml:3: schedules[0].cron: "@often": unrecognized descriptor: @often`},
		{"a time zone alone", "schedules:\n- name: a\n  cron: 'TZ=UTC'\n", `p.yaml:3: schedules[0].cron: "TZ=UTC": a time zone without a schedule`},
		{"an unknown kind of endpoint", "schedules:\n- name: a\n  cron: '@hourly'\n  from: deploy:shop/web\n", `p.yaml:4: schedules[0].from: "deploy:shop/web": ` + endpoints},
		{"a pod without a namespace", "schedules:\n- name: a\n  cron: '@hourly'\n  from: pod:web\n", `p.yaml:4: schedules[0].from: "pod:web": expected pod:NAMESPACE/NAME, or pods:NAMESPACE?LABELS`},
		{"a selector without a namespace", "schedules:\n- name: a\n  cron: '@hourly'\n  to: pods:?app=web\n", `p.yaml:4: schedules[0].to: "pods:?app=web": expected pods:NAMESPACE?LABELS`},
		{"a selector that is no selector", "schedules:\n- name: a\n  cron: '@hourly'\n  to: pods:shop?app=(\n", `p.yaml:4: schedules[0].to: "pods:shop?app=(": label selector: unable to parse requirement: found '(', expected: identifier`},
		{"no port", one(), `p.yaml:2: schedules[0].port: is missing: tcp needs a port from 1 to 65535`},
		{"a port beyond the range", one("port: 65536"), `p.yaml:6: schedules[0].port: "65536": is not a whole number from 1 to 65535`},
		{"a port by name", one("port: http"), `p.yaml:6: schedules[0].port: "http": is not a whole number from 1 to 65535`},
		{"a port for icmp", one("port: 80", "protocol: icmp"), `p.yaml:6: schedules[0].port: "80": icmp has no ports`},
		{"a source port for icmp", one("protocol: icmp", "sourcePort: 9"), `p.yaml:7: schedules[0].sourcePort: "9": icmp has no ports`},
		{"an ICMP type for tcp", one("port: 80", "icmpType: 8"), `p.yaml:7: schedules[0].icmpType: "8": tcp has no ICMP type`},
		{"an unknown protocol", one("port: 80", "protocol: TCP"), `p.yaml:7: schedules[0].protocol: "TCP": is not one of tcp, udp, sctp, icmp`},
		{"an expectation that cannot hold", one("port: 80", "expect: degraded"), `p.yaml:7: schedules[0].expect: "degraded": is not reachable or unreachable`},
		{"a probe that waits for ever", "confirm: {timeout: 1m}", `p.yaml:1: confirm.timeout: "1m": is more than 10s`},
		{"no probes at all", "confirm: {perSecond: 0}", `p.yaml:1: confirm.perSecond: "0": is not a whole number from 1 to 1000`},
		{"confirm with a word", one("port: 80", "confirm: yes"), `p.yaml:7: schedules[0].confirm: "yes": is not true or false`},
		{"a source port beyond the range", one("port: 80", "sourcePort: 0"), `p.yaml:7: schedules[0].sourcePort: "0": is not a whole number from 1 to 65535`},
		{"a negative mark", one("port: 80", "mark: -1"), `p.yaml:7: schedules[0].mark: "-1": is not a whole number from 0 to 4294967295`},
		{"a uid by name", one("port: 80", "uid: root"), `p.yaml:7: schedules[0].uid: "root": is not a whole number from 0 to 4294967295`},
		{"a DSCP of seven bits", one("port: 80", "dscp: 64"), `p.yaml:7: schedules[0].dscp: "64": is not a whole number from 0 to 63`},
		{"an ICMP type of nine bits", one("protocol: icmp", "icmpType: 256"), `p.yaml:7: schedules[0].icmpType: "256": is not a whole number from 0 to 255`},
		{"a size beyond IP", one("port: 80", "size: 65536"), `p.yaml:7: schedules[0].size: "65536": is not a whole number from 1 to 65535`},
		{"half a via", one("port: 80", "via: {namespace: n}"), `p.yaml:7: schedules[0].via: needs a namespace and an interface`},
		{"an empty via namespace", one("port: 80", "via: {namespace: ''}"), `p.yaml:7: schedules[0].via.namespace: "": is empty`},
		{"a namespace that is no pattern", "collector:\n  namespaces:\n  - cni-*\n  - 'a[b'\n", `p.yaml:4: collector.namespaces[1]: "a[b": is not a glob pattern`},
		{"manifests that do not exist", "collector:\n  manifests: nowhere\n", `p.yaml:2: collector.manifests: "nowhere": no such directory`},
		{"a maximal age without a unit", "collector:\n  maxAge: 10\n", `p.yaml:2: collector.maxAge: "10": is not a duration such as 10s, 5m or 1h30m`},
		{"a negative maximal age", "collector:\n  maxAge: -1s\n", `p.yaml:2: collector.maxAge: "-1s": is less than 0s`},
		{"a snapshot age below a second", "snapshotMaxAge: 10ms\n", `p.yaml:1: snapshotMaxAge: "10ms": is less than 1s`},
		{
			"a snapshot that is always too old", "snapshotMaxAge: 5s\n",
			`p.yaml:1: snapshotMaxAge: "5s": is less than collector.maxAge (10s), so that every verdict would be unknown`,
		},
		{"a cloud that is not known", "cloud:\n  provider: aws\n", `p.yaml:2: cloud.provider: "aws": is not one of none, alibaba`},
		{"a cloud without a region", "cloud:\n  provider: alibaba\n", `p.yaml:2: cloud: needs a region`},
		{"a region by name", "cloud:\n  region: Hangzhou\n", `p.yaml:2: cloud.region: "Hangzhou": is not the ID of a region such as cn-hangzhou`},
		{"credentials in the file", "cloud:\n  credentials: LTAI\n", `p.yaml:2: cloud.credentials: "LTAI": is not one of auto, environment, oidc, instance`},
		{"a product that is not read", "cloud:\n  endpoints:\n    rds: https://a\n", `p.yaml:3: cloud.endpoints.rds: unknown key; known keys are alb, ecs, metadata, nlb, slb, sts, vpc`},
		{"an endpoint that is a host", "cloud:\n  endpoints: {ecs: ecs.aliyuncs.com}\n", `p.yaml:2: cloud.endpoints.ecs: "ecs.aliyuncs.com": is not a URL such as https://ecs.cn-hangzhou.aliyuncs.com`},
		{"an endpoint in the clear", "cloud:\n  endpoints: {ecs: 'http://10.0.0.1'}\n", `p.yaml:2: cloud.endpoints.ecs: "http://10.0.0.1": is not https, which is for what is beyond loopback`},
		{
			"facts that are always too old", "cloud: {provider: alibaba, region: cn-hangzhou, maxAge: 3m}\n",
			`p.yaml:1: snapshotMaxAge: "5m0s": is less than twice cloud.maxAge (3m0s), so that facts would be too old before they are read again`,
		},
		{"a negative number of series", "maxPathSeries: -1\n", `p.yaml:1: maxPathSeries: "-1": is not a whole number from 0 to 1000000`},
		{"a history of words", "history: long\n", `p.yaml:1: history: "long": is not a whole number from 0 to 1000000`},
		{"a jitter above one half", "jitter: 0.6\n", `p.yaml:1: jitter: "0.6": is not a number from 0 to 0.5`},
		{"a jitter that is no number", "jitter: .nan\n", `p.yaml:1: jitter: ".nan": is not a number from 0 to 0.5`},
		{"probes that are a switch", "probes: true\n", `p.yaml:1: probes: "true" is not a mapping of keys to values`},
		{"probes that are half enabled", "probes:\n  enabled: on\n", `p.yaml:2: probes.enabled: "on": is not true or false`},
		{"no series at all for probes", "probes:\n  maxSeries: 0\n", `p.yaml:2: probes.maxSeries: "0": is not a whole number from 1 to 1000000`},
		{"a run time that is a duration", "bpfRunSeconds: 5s\n", `p.yaml:1: bpfRunSeconds: "5s": is not true or false`},
		{"an allowed host with a port", "web:\n  allowedHosts: ['a:9810']\n", `p.yaml:2: web.allowedHosts[0]: "a:9810": is not a host name or an IP address (without a port)`},
		{"an allowed host that is empty", "web:\n  allowedHosts: ['']\n", `p.yaml:2: web.allowedHosts[0]: "": is empty`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := Parse("p.yaml", []byte(test.text))
			if err == nil {
				t.Fatalf("accepted as %+v, want the error\n%s", c, test.want)
			}
			if err.Error() != test.want {
				t.Errorf("error is\n%s\nwant\n%s", err, test.want)
			}
		})
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "manifests"), 0o755); err != nil {
		t.Fatal(err)
	}
	const text = `
schedules:
- name: web-to-api
  cron: "*/1 * * * *"
  from: pods:shop?app=web
  to: svc:shop/api
  port: 80
  protocol: udp
  expect: unreachable
  confirm: true
  sourcePort: 1024
  mark: 0x4000
  uid: 0
  dscp: 46
  size: 1500
  via: {namespace: node-1, interface: eth0}
- {name: ping, cron: "@hourly", from: node:a, to: 10.0.0.1, protocol: icmp, icmpType: 8}
collector:
  namespaces: [lab-*]
  manifests: manifests
  maxAge: 3s
confirm: {timeout: 1500ms, perSecond: 5}
cloud:
  provider: alibaba
  region: cn-hangzhou
  credentials: oidc
  maxAge: 20s
  timeout: 10s
  endpoints: {ecs: "https://ecs-vpc.cn-hangzhou.aliyuncs.com", sts: "http://127.0.0.1:80", metadata: "http://100.100.100.200"}
snapshotMaxAge: 1m
maxPathSeries: 7
history: 8
jitter: 0
probes: {enabled: false, maxSeries: 9}
bpfRunSeconds: true
web:
  allowedHosts: [plumbline.example.com, "10.0.0.9"]
  authorization: loopback
  audiences: [plumbline]
  metricsListenAddress: "127.0.0.1:9812"
  metricsConfigFile: /dev/null
  diagnosesPerSecond: 11
  confirmsPerSecond: 3
node: node-1
controller:
  agents:
  - {node: node-1, url: "https://10.0.0.1:9811"}
  - {node: node-2, url: "http://[::1]:9811"}
  timeout: 5s
  tls: {caFile: ca.pem, certFile: /tls/cert.pem, keyFile: /tls/key.pem, serverName: agent}
  tokenFile: token
`
	file := filepath.Join(dir, "plumbline.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	uid, echo := uint32(0), uint8(8)
	want := &Config{
		Schedules: []Schedule{
			{
				Name: "web-to-api", Cron: "*/1 * * * *", From: selector(t, "pods:shop?app=web"), To: selector(t, "svc:shop/api"),
				Query: verdict.Query{
					Port: 80, Protocol: verdict.UDP, Expect: verdict.Unreachable, SourcePort: 1024, Mark: 0x4000, UID: &uid,
					DSCP: 46, Size: 1500, Confirm: true, Via: &verdict.Via{Namespace: "node-1", Interface: "eth0"},
				},
			},
			{
				Name: "ping", Cron: "@hourly", From: selector(t, "node:a"), To: selector(t, "10.0.0.1"),
				Query: verdict.Query{Protocol: verdict.ICMP, ICMPType: &echo},
			},
		},
		Collector: Collector{Namespaces: []string{"lab-*"}, Manifests: filepath.Join(dir, "manifests"), MaxAge: 3 * time.Second},
		Cloud: Cloud{
			Provider: CloudAlibaba, Region: "cn-hangzhou", Credentials: "oidc", MaxAge: 20 * time.Second, Timeout: 10 * time.Second,
			Endpoints: map[string]*url.URL{
				"ecs": {Scheme: "https", Host: "ecs-vpc.cn-hangzhou.aliyuncs.com"}, "sts": {Scheme: "http", Host: "127.0.0.1:80"},
				"metadata": {Scheme: "http", Host: "100.100.100.200"},
			},
		},
		Confirm:        Confirm{Timeout: 1500 * time.Millisecond, PerSecond: 5},
		SnapshotMaxAge: time.Minute,
		MaxPathSeries:  7,
		History:        8,
		Jitter:         0,
		Probes:         Probes{Enabled: false, MaxSeries: 9},
		BPFRunSeconds:  true,
		Web: Web{
			AllowedHosts: []string{"plumbline.example.com", "10.0.0.9"}, Authorization: AuthorizationLoopback, Audiences: []string{"plumbline"},
			MetricsListenAddress: "127.0.0.1:9812", MetricsConfigFile: "/dev/null", DiagnosesPerSecond: 11, ConfirmsPerSecond: 3,
		},
		Node: "node-1",
		Controller: Controller{
			Agents: []Agent{
				{Node: "node-1", URL: &url.URL{Scheme: "https", Host: "10.0.0.1:9811"}}, {Node: "node-2", URL: &url.URL{Scheme: "http", Host: "[::1]:9811"}},
			},
			Timeout:   5 * time.Second,
			TLS:       ClientTLS{CAFile: filepath.Join(dir, "ca.pem"), CertFile: "/tls/cert.pem", KeyFile: "/tls/key.pem", ServerName: "agent"},
			TokenFile: filepath.Join(dir, "token"),
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b Selector) bool { return a.String() == b.String() })); diff != "" {
		t.Errorf("configuration differs (-want +got):\n%s", diff)
	}
}

func TestAnEmptyConfigurationIsTheDefault(t *testing.T) {
	for name, text := range map[string]string{
		"no text":     "",
		"a comment":   "# nothing yet\n",
		"empty keys":  "schedules:\ncollector:\nweb:\n  allowedHosts:\n",
		"empty lists": "schedules: []\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse("p.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Default(), got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("configuration differs from the default (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAFileThatCannotBeReadIsNamed(t *testing.T) {
	_, err := Load("/nonexistent/plumbline.yaml")
	if want := "configuration: open /nonexistent/plumbline.yaml: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	large := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(large, make([]byte, maxConfigSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(large); err == nil || err.Error() != large+": larger than 4194304 bytes" {
		t.Errorf("error is %v", err)
	}
}

func selector(t *testing.T, text string) Selector {
	t.Helper()
	s, err := ParseSelector(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func FuzzParse(f *testing.F) {
	f.Add(one("port: 80"))
	f.Add("collector: {namespaces: [a, *b], maxAge: 1s}\n")
	f.Add("a: &a [*a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("p.yaml", []byte(text))
		if (c == nil) == (err == nil) {
			t.Errorf("configuration %v with error %v: want exactly one", c, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "p.yaml:") {
			t.Errorf("error %q does not name the file", err)
		}
	})
}
