package roles

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/exporter"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{}
	a.key, a.certificate = certify(t, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// certify signs a certificate with an authority, or with its own key.
func certify(t *testing.T, by *authority, template *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = &authority{template, key}
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, certificate
}

// issue writes a certificate for a name, with its key: NAME.pem and NAME-key.pem.
func (a *authority) issue(t *testing.T, dir, name string) {
	t.Helper()
	key, certificate := certify(t, a, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, name+".pem", "CERTIFICATE", certificate.Raw)
	write(t, dir, name+"-key.pem", "PRIVATE KEY", private)
}

// write replaces a file at once, as whoever renews certificates does.
func write(t *testing.T, dir, name, kind string, der []byte) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func TestAgentsAndControllersProveWhoTheyAre(t *testing.T) {
	l := startLab(t)
	dir := t.TempDir()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	write(t, dir, "ca.pem", "CERTIFICATE", ours.certificate.Raw)
	ours.issue(t, dir, "agent")
	ours.issue(t, dir, "controller")
	web := filepath.Join(dir, "web.yaml")
	if err := os.WriteFile(web, []byte(`tls_server_config:
  cert_file: agent.pem
  key_file: agent-key.pem
  client_ca_file: ca.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [controller]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	// It listens for everybody, as it may.
	address, _ := start(t, exporter.Options{Role: exporter.RoleAgent, WebConfigFile: web, ListenAddress: "0.0.0.0:0"}, fmt.Sprintf(
		"node: node-1\nprobes: {enabled: false}\ncollector: {namespaces: [%s], maxAge: 0s}\n", strings.Join(names(t, l, "node-1"), ", ")))
	_, port, err := net.SplitHostPort(address.Host)
	if err != nil {
		t.Fatal(err)
	}
	controller := func(tls string) *asker {
		t.Helper()
		address, _ := start(t, exporter.Options{Role: exporter.RoleController}, fmt.Sprintf(
			"collector: {manifests: %q, maxAge: 0s}\ncontroller: {agents: [{node: node-1, url: 'https://127.0.0.1:%s'}], tls: {%s}}\n", l.ClusterDir(), port, tls))
		return newAsker(t, address)
	}
	check := func(what string, a *asker, want verdict.Verdict) {
		t.Helper()
		if r := a.diagnose(onNode1); r.Verdict != want {
			t.Errorf("%s: %s, want %s", what, say(r), want)
		}
	}
	files := func(ca, name string) string {
		return fmt.Sprintf("caFile: %s, certFile: %s, keyFile: %s, serverName: agent", filepath.Join(dir, ca), filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem"))
	}
	good := controller(files("ca.pem", "controller"))
	check("a controller with its certificate", good, verdict.Reachable)
	check("a controller without a certificate", controller("caFile: "+filepath.Join(dir, "ca.pem")+", serverName: agent"), verdict.Unknown)
	ours.issue(t, dir, "somebody")
	check("somebody else with a certificate of the authority", controller(files("ca.pem", "somebody")), verdict.Unknown)
	theirs.issue(t, filepath.Join(dir), "stranger")
	check("a certificate of another authority", controller(files("ca.pem", "stranger")), verdict.Unknown)
	write(t, dir, "theirs.pem", "CERTIFICATE", theirs.certificate.Raw)
	check("an agent of another authority", controller(files("theirs.pem", "controller")), verdict.Unknown)

	// All are replaced: by those of another authority, so that an old one would not do.
	theirs.issue(t, dir, "agent")
	theirs.issue(t, dir, "controller")
	write(t, dir, "ca.pem", "CERTIFICATE", theirs.certificate.Raw)
	check("a controller, after all certificates were replaced", good, verdict.Reachable)
	if _, body := good.get("/metrics"); !strings.Contains(body, `plumbline_agent_up{node="node-1"} 1`) {
		t.Error("the agent does not count as up")
	}
}

func TestAnAgentDoesNotListenBeyondLoopbackForWhoeverAsks(t *testing.T) {
	d, err := exporter.New(exporter.Options{Role: exporter.RoleAgent, ListenAddress: "0.0.0.0:0"})
	if err == nil {
		d.Close()
		t.Fatal("it does")
	}
	if !strings.Contains(err.Error(), "listening beyond loopback needs authentication") {
		t.Error(err)
	}
}
