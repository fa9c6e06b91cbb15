package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"sync"
	"syscall"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"

	"github.com/plumbline-net/plumbline/schedules"
)

// endpoint is an address at which HTTP is answered, by http.Handler.
type endpoint struct {
	address, webConfig string
	host               string // of the address
	proof              proof
	listener           net.Listener
	http               *http.Server
	log                *slog.Logger
}

// place is where to listen, in the words of whoever says so.
type place struct {
	address, webConfig       string
	addressKey, webConfigKey string
	// reviews says that the API server is asked whose a token is.
	reviews bool
	// shared says that loopback is no identity: on a node of a cluster, pods on the
	// host's network have it, too.
	shared bool
}

// proof is how callers have to prove to the exporter toolkit who they are.
type proof struct{ certificate, password bool }

// proofOf is what a file of the exporter toolkit demands.
func proofOf(c *web.Config) proof {
	return proof{certificate: c.TLSConfig.ClientAuth == "RequireAndVerifyClientCert", password: len(c.Users) > 0}
}

// apiPlace is where the API is.
func apiPlace(options *Options, config *schedules.Config) place {
	authorization := config.Web.Authorization
	return place{
		options.ListenAddress, options.WebConfigFile, "--web.listen-address", "--web.config.file",
		authorization == schedules.AuthorizationKubernetes,
		options.Role != RoleServe && config.Kubernetes != schedules.Kubernetes{} && authorization != schedules.AuthorizationLoopback,
	}
}

// metricsPlace is where the metrics are, if they have a place of their own.
func metricsPlace(config *schedules.Config) place {
	return place{
		address: config.Web.MetricsListenAddress, webConfig: config.Web.MetricsConfigFile,
		addressKey: "web.metricsListenAddress", webConfigKey: "web.metricsConfigFile",
	}
}

// check checks all places without listening at them.
func check(options *Options, config *schedules.Config) error {
	if _, _, err := apiPlace(options, config).check(); err != nil {
		return err
	}
	if config.Web.MetricsListenAddress != "" {
		_, _, err := metricsPlace(config).check()
		return err
	}
	return nil
}

// newEndpoints begins to listen, for the API and for the metrics, which is nil if
// they have no place of their own.
func newEndpoints(options *Options, config *schedules.Config) (api, metrics *endpoint, err error) {
	if api, err = newEndpoint(apiPlace(options, config), options.Log); err != nil {
		return nil, nil, err
	}
	if config.Web.MetricsListenAddress != "" {
		if metrics, err = newEndpoint(metricsPlace(config), options.Log); err != nil {
			api.close()
			return nil, nil, err
		}
	}
	return api, metrics, nil
}

func newEndpoint(at place, log *slog.Logger) (*endpoint, error) {
	host, proof, err := at.check()
	if err != nil {
		return nil, err
	}
	listener, err := at.listen()
	if err != nil {
		return nil, err
	}
	return &endpoint{
		address: at.address, webConfig: at.webConfig, host: host, proof: proof, listener: listener, log: log,
		http: &http.Server{
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeader,
			ErrorLog:          slog.NewLogLogger(discreet{log.Handler()}, slog.LevelWarn),
		},
	}, nil
}

// Addr is the address that is listened on; nil if another process listens.
func (e *endpoint) Addr() net.Addr {
	if e == nil {
		return nil
	}
	return e.listener.Addr()
}

// serve answers until shutdown.
func (e *endpoint) serve() error {
	systemd := false
	if e.proof != (proof{}) {
		e.http.Handler = e.guard(e.http.Handler)
	}
	err := web.Serve(e.listener, e.http, &web.FlagConfig{
		WebListenAddresses: &[]string{e.address}, WebSystemdSocket: &systemd, WebConfigFile: &e.webConfig,
	}, slog.New(discreet{e.log.Handler()}))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve: %s", withoutValues(err.Error()))
}

// guard refuses callers who did not prove who they are as they had to when listening
// began. The toolkit reads its file again for each connection and each request, while
// what else asks them is made once: a file that demands less, by mistake or because it is
// for a process that is yet to be started, would let everybody in.
func (e *endpoint) guard(next http.Handler) http.Handler {
	var once sync.Once
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := e.proven(r)
		if err == nil {
			next.ServeHTTP(w, r)
			return
		}
		once.Do(func() {
			e.log.Error("callers are refused", "file", e.webConfig, "err", err)
		})
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintf(w, `{"error":{"code":"authentication-changed","message":%q}}`+"\n", err)
	})
}

// proven says what of its proof a request was not asked for. A certificate that was
// verified is one, whatever the file says by now.
func (e *endpoint) proven(r *http.Request) error {
	missing := ""
	if e.proof.certificate && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
		missing = "client certificates"
	} else if e.proof.password {
		if c, err := readWebConfig(e.webConfig); err != nil || len(c.Users) == 0 {
			missing = "passwords"
		}
	}
	if missing == "" {
		return nil
	}
	return fmt.Errorf("callers had to have %s when this process started, and the file of its web configuration does not ask for them any more: mend it, or restart the process", missing)
}

// shutdown lets requests under way end, for a while.
func (e *endpoint) shutdown() error {
	if e == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := e.http.Shutdown(ctx); err != nil {
		e.log.Warn("requests were cut off", "err", err)
		return e.http.Close()
	}
	return nil
}

// close ends listening, if it has not ended yet.
func (e *endpoint) close() {
	if e != nil {
		e.listener.Close() // closed by the server, usually
	}
}

// readWebConfig reads a file of the exporter toolkit.
func readWebConfig(path string) (*web.Config, error) {
	c := &web.Config{}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return c, yaml.UnmarshalStrict(data, c)
}

// values are what errors about a file of the exporter toolkit quote of it, which may be a
// password: those of go.yaml.in/yaml and of golang.org/x/crypto/bcrypt.
var values = regexp.MustCompile("(?s)(cannot (?:unmarshal|decode) \\S+) `.*?`( into | as )|(anchor|started with|algorithm version) '.*?'( |$)|(invalid map key): [^\n]*")

// withoutValues is what an error says, with the line but without what stands there.
func withoutValues(text string) string { return values.ReplaceAllString(text, "$1$2$3$4$5") }

// discreet is a handler of what the exporter toolkit logs.
type discreet struct{ slog.Handler }

func (d discreet) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, withoutValues(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.Kind() == slog.KindString {
			a.Value = slog.StringValue(withoutValues(a.Value.String()))
		}
		clean.AddAttrs(a)
		return true
	})
	return d.Handler.Handle(ctx, clean)
}

func (d discreet) WithAttrs(attrs []slog.Attr) slog.Handler {
	return discreet{d.Handler.WithAttrs(attrs)}
}

func (d discreet) WithGroup(name string) slog.Handler { return discreet{d.Handler.WithGroup(name)} }

// check refuses to show the network to others without asking who they are. It
// returns the host part of the address, and how callers have to prove who they are.
func (p place) check() (string, proof, error) {
	host, _, err := net.SplitHostPort(p.address)
	if err != nil {
		return "", proof{}, fmt.Errorf("%s: %w", p.addressKey, err)
	}
	c := &web.Config{}
	if p.webConfig != "" {
		if err := web.Validate(p.webConfig); err != nil {
			return "", proof{}, fmt.Errorf("%s %s: %s", p.webConfigKey, p.webConfig, withoutValues(err.Error()))
		}
		if c, err = readWebConfig(p.webConfig); err != nil {
			return "", proof{}, fmt.Errorf("%s %s: %s", p.webConfigKey, p.webConfig, withoutValues(err.Error()))
		}
	}
	demanded := proofOf(c)
	encrypted := c.TLSConfig.TLSCert != "" || c.TLSConfig.TLSCertPath != ""
	// TLS alone does not ask who is there.
	authenticates := demanded.password || demanded.certificate || p.reviews
	addr, err := netip.ParseAddr(host)
	loopback := host == "localhost" || err == nil && addr.Unmap().IsLoopback()
	switch {
	case p.reviews && demanded.password:
		return "", proof{}, errors.New("web.authorization and basic_auth_users in --web.config.file exclude each other: both are in the header Authorization")
	case loopback && p.shared && !authenticates:
		return "", proof{}, fmt.Errorf("%s %s: on a node of a cluster many share loopback, which says nothing of who asks: "+
			"give web.authorization: kubernetes, or users or client certificates in %s; or web.authorization: loopback if whoever gets there may ask all", p.addressKey, p.address, p.webConfigKey)
	case loopback:
	case !authenticates:
		return "", proof{}, fmt.Errorf("%s %s: listening beyond loopback needs authentication: "+
			"give basic_auth_users, or TLS with client_auth_type RequireAndVerifyClientCert, in %s", p.addressKey, p.address, p.webConfigKey)
	case p.reviews && !encrypted:
		return "", proof{}, fmt.Errorf("%s %s: tokens beyond loopback need TLS: give tls_server_config in %s", p.addressKey, p.address, p.webConfigKey)
	}
	return host, demanded, nil
}

func (p place) listen() (net.Listener, error) {
	l, err := net.Listen("tcp", p.address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: the port is in use, perhaps by another plumbline; stop it, or choose another with %s", p.address, p.addressKey)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", p.addressKey, err)
	}
	return l, nil
}
