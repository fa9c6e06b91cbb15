package schedules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// maxProbeTimeout is what is waited for at most: longer says nothing more.
const maxProbeTimeout = 10 * time.Second

// maxConfigSize is far above any real configuration; reading stops there.
const maxConfigSize = 4 << 20

// Load reads a configuration file. Errors name file, line and token.
func Load(file string) (*Config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(data) > maxConfigSize {
		return nil, fmt.Errorf("%s: larger than %d bytes", file, maxConfigSize)
	}
	return Parse(file, data)
}

// Parse reads the text of a configuration. The file's name is for messages,
// and relative paths in the text are relative to its directory.
func Parse(file string, data []byte) (*Config, error) {
	d := decoder{file: file}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return Default(), nil
	} else if err != nil {
		return nil, d.syntaxError(err)
	}
	var more yaml.Node
	if err := dec.Decode(&more); err == nil {
		return nil, d.errorf(&more, "", "a second YAML document; only one is allowed")
	} else if !errors.Is(err, io.EOF) {
		return nil, d.syntaxError(err)
	}
	return d.config(doc.Content[0])
}

func (d decoder) config(root *yaml.Node) (*Config, error) {
	c := Default()
	lines := make(map[string]int) // of schedules, by name
	err := d.mapping(root, "", fields{
		"schedules": func(node *yaml.Node, at string) error {
			return d.list(node, at, func(item *yaml.Node, at string) error {
				s, err := d.schedule(item, at)
				if err != nil {
					return err
				}
				if first, ok := lines[s.Name]; ok {
					return d.errorf(item, at+".name", "%q: the schedule in line %d has this name", s.Name, first)
				}
				lines[s.Name] = item.Line
				c.Schedules = append(c.Schedules, s)
				return nil
			})
		},
		"collector": func(node *yaml.Node, at string) error {
			return d.mapping(node, at, fields{
				"namespaces": texts(d, &c.Collector.Namespaces, validPattern),
				"manifests":  scalar(d, &c.Collector.Manifests, d.directory),
				"maxAge":     scalar(d, &c.Collector.MaxAge, duration(0)),
			})
		},
		"confirm": func(node *yaml.Node, at string) error {
			return d.mapping(node, at, fields{
				"timeout": scalar(d, &c.Confirm.Timeout, func(s string) (time.Duration, error) {
					timeout, err := duration(100 * time.Millisecond)(s)
					if err == nil && timeout > maxProbeTimeout {
						err = fmt.Errorf("is more than %s", maxProbeTimeout)
					}
					return timeout, err
				}),
				"perSecond": scalar(d, &c.Confirm.PerSecond, number[int](1, 1000)),
			})
		},
		"kubernetes": func(node *yaml.Node, at string) error {
			err := d.mapping(node, at, fields{
				"kubeconfig": scalar(d, &c.Kubernetes.Kubeconfig, d.existing),
				"inCluster":  scalar(d, &c.Kubernetes.InCluster, boolean),
			})
			if k := c.Kubernetes; err == nil && k.Kubeconfig != "" && k.InCluster {
				err = d.errorf(node, at, "kubeconfig and inCluster exclude each other")
			}
			return err
		},
		"cloud":          func(node *yaml.Node, at string) error { return d.cloud(node, at, &c.Cloud) },
		"snapshotMaxAge": scalar(d, &c.SnapshotMaxAge, duration(time.Second)),
		"maxPathSeries":  scalar(d, &c.MaxPathSeries, number[int](0, 1_000_000)),
		"history":        scalar(d, &c.History, number[int](0, 1_000_000)),
		"jitter":         scalar(d, &c.Jitter, ratio(0, 0.5)),
		"probes": func(node *yaml.Node, at string) error {
			return d.mapping(node, at, fields{
				"enabled":   scalar(d, &c.Probes.Enabled, boolean),
				"maxSeries": scalar(d, &c.Probes.MaxSeries, number[int](1, 1_000_000)),
			})
		},
		"bpfRunSeconds": scalar(d, &c.BPFRunSeconds, boolean),
		"web": func(node *yaml.Node, at string) error {
			return d.mapping(node, at, fields{
				"allowedHosts": texts(d, &c.Web.AllowedHosts, validHost),
				"authorization": scalar(d, &c.Web.Authorization, func(s string) (string, error) {
					if s != AuthorizationKubernetes && s != AuthorizationLoopback {
						return "", errors.New("is not kubernetes or loopback")
					}
					return s, nil
				}),
				"audiences":            texts(d, &c.Web.Audiences, func(string) error { return nil }),
				"metricsListenAddress": scalar(d, &c.Web.MetricsListenAddress, hostPort),
				"metricsConfigFile":    scalar(d, &c.Web.MetricsConfigFile, d.existing),
				"diagnosesPerSecond":   scalar(d, &c.Web.DiagnosesPerSecond, number[int](1, 1_000_000)),
				"confirmsPerSecond":    scalar(d, &c.Web.ConfirmsPerSecond, number[int](1, 1_000_000)),
			})
		},
		"node":       scalar(d, &c.Node, text),
		"controller": func(node *yaml.Node, at string) error { return d.controller(node, at, &c.Controller) },
	})
	if err == nil {
		err = d.consistent(root, c)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// consistent checks what parts of a configuration ask of each other.
func (d decoder) consistent(root *yaml.Node, c *Config) error {
	if c.Kubernetes != (Kubernetes{}) && c.Collector.Manifests != "" {
		return d.errorf(root, "collector.manifests", "%q: the objects of the cluster come from kubernetes, or from manifests", c.Collector.Manifests)
	}
	if c.Web.MetricsConfigFile != "" && c.Web.MetricsListenAddress == "" {
		return d.errorf(root, "web.metricsConfigFile", "needs web.metricsListenAddress")
	}
	if c.Web.Authorization == AuthorizationKubernetes && c.Kubernetes == (Kubernetes{}) {
		return d.errorf(root, "web.authorization", "needs the API server that decides: kubernetes.kubeconfig or kubernetes.inCluster")
	}
	if c.Controller.Lease != (Lease{}) && c.Kubernetes == (Kubernetes{}) {
		return d.errorf(root, "controller.lease", "needs the API server that has the lease: kubernetes.kubeconfig or kubernetes.inCluster")
	}
	if c.SnapshotMaxAge < c.Collector.MaxAge {
		return d.errorf(root, "snapshotMaxAge", "%q: is less than collector.maxAge (%s), so that every verdict would be unknown",
			c.SnapshotMaxAge, c.Collector.MaxAge)
	}
	if c.Cloud.Provider != CloudNone && c.SnapshotMaxAge < 2*c.Cloud.MaxAge {
		return d.errorf(root, "snapshotMaxAge", "%q: is less than twice cloud.maxAge (%s), so that facts would be too old before they are read again",
			c.SnapshotMaxAge, c.Cloud.MaxAge)
	}
	return nil
}

func (d decoder) cloud(node *yaml.Node, at string, c *Cloud) error {
	endpoints := fields{}
	for _, name := range CloudEndpoints {
		endpoints[name] = func(node *yaml.Node, at string) error {
			var u *url.URL
			if err := scalar(d, &u, endpoint(name))(node, at); err != nil {
				return err
			}
			if c.Endpoints == nil {
				c.Endpoints = make(map[string]*url.URL)
			}
			c.Endpoints[name] = u
			return nil
		}
	}
	err := d.mapping(node, at, fields{
		"provider":    scalar(d, &c.Provider, oneOf(CloudNone, CloudAlibaba)),
		"region":      scalar(d, &c.Region, region),
		"credentials": scalar(d, &c.Credentials, oneOf("auto", "environment", "oidc", "instance")),
		"maxAge":      scalar(d, &c.MaxAge, duration(time.Second)),
		"timeout":     scalar(d, &c.Timeout, duration(time.Second)),
		"endpoints":   func(node *yaml.Node, at string) error { return d.mapping(node, at, endpoints) },
	})
	if err == nil && c.Provider != CloudNone && c.Region == "" {
		err = d.errorf(node, at, "needs a region")
	}
	return err
}

func (d decoder) controller(node *yaml.Node, at string, c *Controller) error {
	lines := make(map[string]int) // of agents, by node
	err := d.mapping(node, at, fields{
		"agents": func(node *yaml.Node, at string) error {
			return d.list(node, at, func(item *yaml.Node, at string) error {
				var a Agent
				err := d.mapping(item, at, fields{"node": scalar(d, &a.Node, text), "url": scalar(d, &a.URL, agentURL)})
				switch {
				case err != nil:
					return err
				case a.Node == "" || a.URL == nil:
					return d.errorf(item, at, "needs a node and a url")
				case lines[a.Node] != 0:
					return d.errorf(item, at+".node", "%q: the agent in line %d is of this node", a.Node, lines[a.Node])
				}
				lines[a.Node] = item.Line
				c.Agents = append(c.Agents, a)
				return nil
			})
		},
		"discover": func(node *yaml.Node, at string) error {
			err := d.mapping(node, at, fields{
				"namespace": scalar(d, &c.Discover.Namespace, text),
				"selector": scalar(d, &c.Discover.Selector, func(s string) (labels.Selector, error) {
					selector, err := labels.Parse(s)
					if err == nil && selector.Empty() {
						err = errors.New("selects every pod")
					}
					return selector, err
				}),
				"port": scalar(d, &c.Discover.Port, number[uint16](1, 65535)),
			})
			if err == nil && (c.Discover.Namespace == "" || c.Discover.Selector == nil || c.Discover.Port == 0) {
				err = d.errorf(node, at, "needs a namespace, a selector and a port")
			}
			return err
		},
		"lease": func(node *yaml.Node, at string) error {
			c.Lease.Duration = 15 * time.Second
			err := d.mapping(node, at, fields{
				"namespace": scalar(d, &c.Lease.Namespace, text),
				"name":      scalar(d, &c.Lease.Name, text),
				"duration":  scalar(d, &c.Lease.Duration, duration(2*time.Second)),
			})
			if err == nil && (c.Lease.Namespace == "" || c.Lease.Name == "") {
				err = d.errorf(node, at, "needs a namespace and a name")
			}
			return err
		},
		"timeout":   scalar(d, &c.Timeout, duration(time.Second)),
		"tokenFile": scalar(d, &c.TokenFile, d.path),
		"tls": func(node *yaml.Node, at string) error {
			return d.mapping(node, at, fields{
				"caFile":     scalar(d, &c.TLS.CAFile, d.path),
				"certFile":   scalar(d, &c.TLS.CertFile, d.path),
				"keyFile":    scalar(d, &c.TLS.KeyFile, d.path),
				"serverName": scalar(d, &c.TLS.ServerName, text),
			})
		},
	})
	if err != nil {
		return err
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return d.errorf(node, at+".tls", "certFile and keyFile need each other")
	}
	return nil
}

// label is what a schedule's name must look like: it becomes a label value, a
// part of URLs and of log lines.
var label = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

func (d decoder) schedule(node *yaml.Node, at string) (Schedule, error) {
	s := Schedule{Query: verdict.Query{Protocol: verdict.TCP}}
	q := &s.Query
	// Which line to blame for faults that involve several keys.
	lines := make(map[string]*yaml.Node)
	noting := func(read func(*yaml.Node, string) error) func(*yaml.Node, string) error {
		return func(node *yaml.Node, at string) error {
			lines[at] = node
			return read(node, at)
		}
	}
	err := d.mapping(node, at, fields{
		"name": noting(scalar(d, &s.Name, func(name string) (string, error) {
			if !label.MatchString(name) {
				return "", errors.New("a name has 1 to 63 letters, digits, '-', '_' and '.', and begins with a letter or digit")
			}
			return name, nil
		})),
		"cron": noting(scalar(d, &s.Cron, func(spec string) (string, error) {
			_, err := parseCron(spec)
			return spec, err
		})),
		"from":     noting(scalar(d, &s.From, ParseSelector)),
		"to":       noting(scalar(d, &s.To, ParseSelector)),
		"port":     noting(scalar(d, &q.Port, number[uint16](1, 65535))),
		"protocol": noting(scalar(d, &q.Protocol, protocol)),
		"expect": scalar(d, &q.Expect, func(s string) (verdict.Verdict, error) {
			v := verdict.Verdict(s)
			if v != verdict.Reachable && v != verdict.Unreachable {
				return "", errors.New("is not reachable or unreachable")
			}
			return v, nil
		}),
		"confirm":    scalar(d, &q.Confirm, boolean),
		"sourcePort": noting(scalar(d, &q.SourcePort, number[uint16](1, 65535))),
		"mark":       scalar(d, &q.Mark, number[uint32](0, 1<<32-1)),
		"uid": func(node *yaml.Node, at string) error {
			q.UID = new(uint32)
			return scalar(d, q.UID, number[uint32](0, 1<<32-1))(node, at)
		},
		"dscp": scalar(d, &q.DSCP, number[uint8](0, 63)),
		"icmpType": noting(func(node *yaml.Node, at string) error {
			q.ICMPType = new(uint8)
			return scalar(d, q.ICMPType, number[uint8](0, 255))(node, at)
		}),
		"size": scalar(d, &q.Size, number[int](1, 65535)),
		"via": func(node *yaml.Node, at string) error {
			q.Via = &verdict.Via{}
			err := d.mapping(node, at, fields{
				"namespace": scalar(d, &q.Via.Namespace, text),
				"interface": scalar(d, &q.Via.Interface, text),
			})
			if err == nil && (q.Via.Namespace == "" || q.Via.Interface == "") {
				err = d.errorf(node, at, "needs a namespace and an interface")
			}
			return err
		},
	})
	if err != nil {
		return Schedule{}, err
	}
	for _, key := range []string{"name", "cron", "from", "to"} {
		if lines[join(at, key)] == nil {
			return Schedule{}, d.errorf(node, at, "%s is missing", key)
		}
	}
	// What is left are faults between keys: each names the key to change.
	blame := func(key, format string, args ...any) (Schedule, error) {
		where := lines[join(at, key)]
		if where == nil {
			where = node
		}
		return Schedule{}, d.errorf(where, join(at, key), format, args...)
	}
	icmp := q.Protocol == verdict.ICMP
	switch {
	case icmp && q.Port != 0:
		return blame("port", "\"%d\": icmp has no ports", q.Port)
	case icmp && q.SourcePort != 0:
		return blame("sourcePort", "\"%d\": icmp has no ports", q.SourcePort)
	case !icmp && q.Port == 0:
		return blame("port", "is missing: %s needs a port from 1 to 65535", q.Protocol)
	case !icmp && q.ICMPType != nil:
		return blame("icmpType", "\"%d\": %s has no ICMP type", *q.ICMPType, q.Protocol)
	}
	return s, nil
}
