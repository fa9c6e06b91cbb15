package alibaba_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/plumbline-net/plumbline/cloud/alibaba"
	"github.com/plumbline-net/plumbline/cloud/alibaba/alibabatest"
	model "github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
)

// environment sets the variables that credentials come from, and no others.
func environment(t *testing.T, given map[string]string) {
	t.Helper()
	for _, name := range []string{
		"ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN", "ALIBABA_CLOUD_ROLE_ARN",
		"ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE", "ALIBABA_CLOUD_ECS_METADATA",
	} {
		t.Setenv(name, given[name])
	}
}

func key() map[string]string {
	return map[string]string{"ALIBABA_CLOUD_ACCESS_KEY_ID": alibabatest.KeyID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": alibabatest.KeySecret}
}

// serviceAccount is the environment of a pod whose service account has a role.
func serviceAccount(t *testing.T, token string) map[string]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"ALIBABA_CLOUD_ROLE_ARN": alibabatest.RoleARN, "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": alibabatest.Provider, "ALIBABA_CLOUD_OIDC_TOKEN_FILE": file,
	}
}

func with(a, b map[string]string) map[string]string {
	for k, v := range b {
		a[k] = v
	}
	return a
}

// TestSourcesOfCredentials uses what there is in the order of the official chain.
func TestSourcesOfCredentials(t *testing.T) {
	for _, c := range []struct {
		name, source string
		env          map[string]string
		sts, imds    int // how often they are asked
	}{
		{"environment first", alibaba.CredentialsAuto, with(key(), serviceAccount(t, alibabatest.Token)), 0, 0},
		{"then the service account", alibaba.CredentialsAuto, serviceAccount(t, alibabatest.Token), 1, 0},
		{"then the instance", alibaba.CredentialsAuto, nil, 0, 3},
		{"a role that is named", alibaba.CredentialsAuto, map[string]string{"ALIBABA_CLOUD_ECS_METADATA": alibabatest.RoleName}, 0, 2},
		{"the service account alone", alibaba.CredentialsOIDC, with(key(), serviceAccount(t, alibabatest.Token)), 1, 0},
		{"the instance alone", alibaba.CredentialsInstance, key(), 0, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := alibabatest.New(t, alibabatest.Small())
			r, _ := quick(t, s, func(o *alibaba.Options) { o.Credentials = c.source })
			environment(t, c.env)
			f := r.Fetch(t.Context(), nodes)
			if len(f.Failed) > 0 {
				t.Fatalf("failed: %v", f.Failed)
			}
			if calls := s.Calls(); calls["sts.AssumeRoleWithOIDC"] != c.sts || calls["metadata"] != c.imds {
				t.Errorf("calls are %v", calls)
			}
		})
	}
}

// TestNoCredentials says what is missing, and fails what is asked for.
func TestNoCredentials(t *testing.T) {
	for _, c := range []struct {
		name  string
		env   map[string]string
		fault string
		want  string
	}{
		{"half a key", map[string]string{"ALIBABA_CLOUD_ACCESS_KEY_ID": alibabatest.KeyID}, "", "NoCredentials: credentials of the environment: ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET need each other"},
		{"a wrong secret", map[string]string{"ALIBABA_CLOUD_ACCESS_KEY_ID": alibabatest.KeyID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "wrong"}, "", "SignatureDoesNotMatch: Specified signature is not matched with our calculation. server string to sign differs"},
		{"a key that is not known", map[string]string{"ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAIgone", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "gone"}, "", "InvalidAccessKeyId.NotFound: Specified access key is not found."},
		{"a token that is not valid", serviceAccount(t, "forged"), "", "NoCredentials: sts.AssumeRoleWithOIDC: AuthenticationFail.OIDCToken.Invalid: This JWT is invalid."},
		{"half a service account", map[string]string{"ALIBABA_CLOUD_OIDC_TOKEN_FILE": "/nowhere"}, "", "NoCredentials: credentials by OIDC: ALIBABA_CLOUD_ROLE_ARN, ALIBABA_CLOUD_OIDC_PROVIDER_ARN and ALIBABA_CLOUD_OIDC_TOKEN_FILE need each other"},
		{"no role", nil, "metadata", "NoCredentials: the instance's metadata: Forbidden.RAM: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := alibabatest.New(t, alibabatest.Small())
			r, _ := quick(t, s)
			if c.fault != "" {
				s.Fail(c.fault, alibabatest.Forbidden)
			}
			environment(t, c.env)
			f := r.Fetch(t.Context(), nodes)
			if got := f.Failed["ecs.DescribeInstances"]; !strings.HasPrefix(got, c.want) {
				t.Errorf("failed is %q, want %q", got, c.want)
			}
			clean(t, s, f)
		})
	}
}

// TestCredentialsAreRenewed gets new ones before the old ones end, and when they ended
// too early; while none can be had, those that are good yet are used.
func TestCredentialsAreRenewed(t *testing.T) {
	s := alibabatest.New(t, alibabatest.Small())
	r, c := quick(t, s)
	environment(t, serviceAccount(t, alibabatest.Token))
	read := func() *model.Facts {
		c.at = c.at.Add(2 * time.Minute)
		return r.Fetch(t.Context(), nodes)
	}
	asked := func(want int) {
		t.Helper()
		if n := s.Calls()["sts.AssumeRoleWithOIDC"]; n != want {
			t.Errorf("STS was asked %d times, want %d", n, want)
		}
	}
	s.Lifetime(4 * time.Minute) // too short to be kept
	if f := read(); len(f.Failed) > 0 {
		t.Fatalf("failed: %v", f.Failed)
	}
	if n := s.Calls()["sts.AssumeRoleWithOIDC"]; n < 2 {
		t.Errorf("STS was asked %d times", n)
	}
	s.Fail("sts.AssumeRoleWithOIDC", alibabatest.Broken)
	if f := read(); len(f.Failed) > 0 {
		t.Errorf("with credentials that are good yet: failed: %v", f.Failed)
	}
	s.Heal()
	s.Lifetime(time.Hour)
	read()
	before := s.Calls()["sts.AssumeRoleWithOIDC"]
	read()
	asked(before)
	s.Revoke()
	if f := read(); len(f.Failed) > 0 {
		t.Errorf("after they were revoked: failed: %v", f.Failed)
	}
	if n := s.Calls()["sts.AssumeRoleWithOIDC"]; n == before {
		t.Error("STS was not asked")
	}
}

// TestNothingIsTold looks for credentials, the account's number and what else nobody
// is to read in all that comes out: facts, bundles, logs, metrics, errors.
func TestNothingIsTold(t *testing.T) {
	for name, env := range map[string]map[string]string{"a key": key(), "a service account": serviceAccount(t, alibabatest.Token), "an instance": nil} {
		for fault, f := range map[string]alibabatest.Fault{
			"no fault": {}, "refused": alibabatest.Forbidden, "cut": {Cut: true}, "truncated": {Truncate: true},
			"told": {Status: 400, Code: "InvalidParameter", Message: "AccessKeyId=" + alibabatest.KeyID + "&SecurityToken=abc of acs:ecs:cn-test:" + alibabatest.Account + ":instance/*"},
		} {
			t.Run(name+", "+fault, func(t *testing.T) {
				s := alibabatest.New(t, alibabatest.Small())
				var log bytes.Buffer
				r, _ := quick(t, s, func(o *alibaba.Options) {
					o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				})
				environment(t, env)
				if fault != "no fault" {
					s.Fail("ecs.DescribeInstances", f)
					s.Fail("vpc.DescribeVpcs", f)
					s.Fail("alb.ListServerGroupServers", f)
				}
				facts := r.Fetch(t.Context(), alsoByAddress)
				if len(facts.Interfaces) != 2 {
					t.Fatalf("nothing was read: %v", facts.Failed)
				}
				clean(t, s, facts)
				found(t, s, "log", log.String())
				registry := prometheus.NewRegistry()
				registry.MustRegister(r.Metrics())
				families, err := registry.Gather()
				if err != nil {
					t.Fatal(err)
				}
				var text bytes.Buffer
				for _, family := range families {
					if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
						t.Fatal(err)
					}
				}
				found(t, s, "metrics", text.String())
			})
		}
	}
	t.Run("the server goes away", func(t *testing.T) {
		s := alibabatest.New(t, alibabatest.Small())
		r, _ := quick(t, s)
		environment(t, key())
		s.Close()
		f := r.Fetch(t.Context(), alsoByAddress)
		if !strings.HasPrefix(f.Failed["ecs.DescribeInstances"], "Unreachable: ") {
			t.Errorf("failed is %v", f.Failed)
		}
		clean(t, s, f)
	})
}

// clean looks into facts, and into the files that a bundle gets.
func clean(t *testing.T, s *alibabatest.Server, f *model.Facts) {
	t.Helper()
	files, err := model.Files(f)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		found(t, s, name, string(data))
	}
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	found(t, s, "facts", string(data))
}

// found fails where there is what is not to be told.
func found(t *testing.T, s *alibabatest.Server, where, text string) {
	t.Helper()
	s.Untold(t, where, text)
	if slices.ContainsFunc([]string{"SecurityToken=", "Signature="}, func(s string) bool { return strings.Contains(text, s) }) {
		t.Errorf("%s has a request in it", where)
	}
}

// TestTheSDKDoesNotTrace refuses to work where it would.
func TestTheSDKDoesNotTrace(t *testing.T) {
	t.Setenv("DEBUG", "tea,sdk")
	if _, err := alibaba.NewReader(alibaba.Options{Region: "cn-test"}); err == nil {
		t.Error("it would print credentials")
	}
}
