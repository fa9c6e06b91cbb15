package exporter

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// everybody writes cert.pem and key.pem: an authority's certificate that is a server's and a
// client's, too.
func everybody(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "everybody"}, DNSNames: []string{"localhost"}, SerialNumber: big.NewInt(1),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for name, content := range map[string][]byte{"cert.pem": certificate, "key.pem": secret} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(certificate, secret)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// The exporter toolkit reads its file again while the daemon runs, and the file of the next
// version may come before its process does.
func TestWhoHadToProveWhoTheyAreStillHaveTo(t *testing.T) {
	dir := t.TempDir()
	own := everybody(t, dir)
	roots := x509.NewCertPool()
	roots.AddCert(own.Leaf)
	const (
		encrypted = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
		demanding = "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_auth_type: RequireAndVerifyClientCert, client_ca_file: cert.pem}\n"
		optional  = "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_auth_type: VerifyClientCertIfGiven, client_ca_file: cert.pem}\n"
		unproven  = "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_auth_type: RequireAnyClientCert}\n"
		users     = "basic_auth_users: {a: $2a$04$D7Wuc8jUOBqiX.f99rM4L.v61NOcTypoP0l2OTLCbRuN8.0rlie1S}\n"
		others    = "basic_auth_users: {b: $2a$04$D7Wuc8jUOBqiX.f99rM4L.v61NOcTypoP0l2OTLCbRuN8.0rlie1S}\n"
	)
	type caller struct{ certificate, password bool }
	for name, test := range map[string]struct {
		before, after string
		let, refused  caller // before
		status        map[caller]int
	}{
		"certificates that are not asked for": {demanding, encrypted, caller{certificate: true}, caller{}, map[caller]int{{}: 503, {certificate: true}: 503}},
		"certificates that may be given":      {demanding, optional, caller{certificate: true}, caller{}, map[caller]int{{}: 503, {certificate: true}: 200}},
		"certificates of anybody":             {demanding, unproven, caller{certificate: true}, caller{}, map[caller]int{{certificate: true}: 503}},
		"passwords of nobody":                 {encrypted + users, encrypted, caller{password: true}, caller{}, map[caller]int{{}: 503, {password: true}: 503}},
		"passwords without encryption":        {users, "{}\n", caller{password: true}, caller{}, map[caller]int{{}: 503, {password: true}: 503}},
		"passwords of others":                 {encrypted + users, encrypted + others, caller{password: true}, caller{}, map[caller]int{{}: 401, {password: true}: 401}},
		"both, without certificates":          {demanding + users, encrypted + users, caller{true, true}, caller{certificate: true}, map[caller]int{{password: true}: 503, {}: 401}},
		"both, without passwords":             {demanding + users, demanding, caller{true, true}, caller{certificate: true}, map[caller]int{{true, true}: 503, {certificate: true}: 503}},
		"what was never asked for":            {encrypted, encrypted, caller{}, caller{true, true}, map[caller]int{{}: 200}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "web.yaml")
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(test.before)
			d, log := newDaemon(t, Options{Bundle: sample, WebConfigFile: file})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- d.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			// ask is 0 if there is no connection.
			ask := func(who caller) (int, string) {
				t.Helper()
				config := &tls.Config{RootCAs: roots, ServerName: "localhost"}
				if who.certificate {
					config.Certificates = []tls.Certificate{own}
				}
				scheme := "https://"
				if !strings.Contains(test.before, "tls_server_config") {
					scheme = "http://"
				}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+d.Addr().String()+"/api/v1/schedules", nil)
				if err != nil {
					t.Fatal(err)
				}
				if who.password {
					r.SetBasicAuth("a", "password")
				}
				answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}).Do(r)
				if err != nil {
					return 0, err.Error()
				}
				defer answer.Body.Close()
				body, err := io.ReadAll(answer.Body)
				if err != nil {
					t.Fatal(err)
				}
				return answer.StatusCode, string(body)
			}
			if status, body := ask(test.let); status != http.StatusOK {
				t.Fatalf("before: %d %s", status, body)
			}
			if status, body := ask(test.refused); test.before != test.after && status == http.StatusOK {
				t.Fatalf("%+v before: %s", test.refused, body)
			}
			write(test.after)
			for who, want := range test.status {
				status, body := ask(who)
				if status != want {
					t.Errorf("%+v: %d %s, want %d", who, status, body, want)
				}
				var answer struct {
					Error struct{ Code, Message string }
				}
				if status == http.StatusServiceUnavailable && (json.Unmarshal([]byte(body), &answer) != nil || answer.Error.Code != "authentication-changed" ||
					!strings.HasSuffix(answer.Error.Message, ": mend it, or restart the process")) {
					t.Errorf("%+v: %s", who, body)
				}
			}
			refused := 0
			for _, status := range test.status {
				if status == http.StatusServiceUnavailable {
					refused = 1
				}
			}
			if n := strings.Count(log.String(), "callers are refused"); n != refused {
				t.Errorf("the log says so %d times, want %d:\n%s", n, refused, log)
			}
			write(test.before)
			if status, body := ask(test.let); status != http.StatusOK {
				t.Errorf("with the file as it was: %d %s", status, body)
			}
		})
	}
}

// What stands in the file may be a password.
func TestWhatIsWrongWithAWebConfigurationIsSaidWithoutItsValues(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]string{
		"http_server_config:\n  http2: true\nbasic_auth_users: 5ecret":                        "yaml: unmarshal errors:\n  line 3: cannot unmarshal !!str into map[string]config.Secret",
		"basic_auth_users: [5ecret]":                                                          "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!seq into map[string]config.Secret",
		"rate_limit: 5ecretthatislonger":                                                      "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str into web.RateLimiterConfig",
		"rate_limit: |\n  5e`cr\n  et":                                                        "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str into web.RateLimiterConfig",
		"basic_auth_users: *5ecret":                                                           "yaml: unknown anchor referenced",
		"basic_auth_users: {a: !!int 5ecret}":                                                 "yaml: cannot decode !!str as a !!int",
		"basic_auth_users: {a: 5ecretwhichwasnotreplacedbyitshashbyfarlongenoughtobeonealas}": "crypto/bcrypt: bcrypt hashes must start with '$', but hashedSecret started with",
		"basic_auth_users: {a: $52$5ecretwhichisnoneofthisversionandlongenoughtobeahashalas}": "crypto/bcrypt: bcrypt algorithm version requested is newer than current version '2'",
		"basic_auth_users: {a: b}\nc: d":                                                      "yaml: unmarshal errors:\n  line 2: field c not found in type web.Config",
	} {
		write(text)
		_, err := New(Options{Bundle: sample, ListenAddress: "127.0.0.1:0", WebConfigFile: file, Log: slog.New(slog.DiscardHandler)})
		if want := "--web.config.file " + file + ": " + want; err == nil || err.Error() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", text, err, want)
		}
	}

	// Nor in the log, when the file becomes so.
	write("basic_auth_users: {a: $2a$04$D7Wuc8jUOBqiX.f99rM4L.v61NOcTypoP0l2OTLCbRuN8.0rlie1S}")
	d, log := newDaemon(t, Options{Bundle: sample, WebConfigFile: file})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, step := range []struct {
		text   string
		status int
	}{{"", http.StatusUnauthorized}, {"basic_auth_users: 5ecret", http.StatusInternalServerError}} {
		if step.text != "" {
			write(step.text)
		}
		answer, err := client.Get("http://" + d.Addr().String() + "/")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != step.status {
			t.Errorf("%q: %d, want %d", step.text, answer.StatusCode, step.status)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Contains(text, "5ecret") || !strings.Contains(text, "cannot unmarshal !!str into map[string]config.Secret") {
		t.Errorf("log:\n%s", text)
	}
}
