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
	"syscall"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"
)

// endpoint is an address at which HTTP is answered, by http.Handler.
type endpoint struct {
	address, webConfig string
	host               string // of the address
	listener           net.Listener
	http               *http.Server
	log                *slog.Logger
}

// newEndpoint begins to listen where the options say.
func newEndpoint(options *Options, reviews bool) (*endpoint, error) {
	host, err := checkListen(options.ListenAddress, options.WebConfigFile, reviews)
	if err != nil {
		return nil, err
	}
	listener, err := listen(options.ListenAddress)
	if err != nil {
		return nil, err
	}
	return &endpoint{
		address: options.ListenAddress, webConfig: options.WebConfigFile, host: host, listener: listener, log: options.Log,
		http: &http.Server{
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeader,
			ErrorLog:          slog.NewLogLogger(options.Log.Handler(), slog.LevelWarn),
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
	err := web.Serve(e.listener, e.http, &web.FlagConfig{
		WebListenAddresses: &[]string{e.address}, WebSystemdSocket: &systemd, WebConfigFile: &e.webConfig,
	}, e.log)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// shutdown lets requests under way end, for a while.
func (e *endpoint) shutdown() error {
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

// checkListen refuses to show the network to others without asking who they
// are. Reviews says that the API server is asked whose a token is. It returns the
// host part of address.
func checkListen(address, webConfig string, reviews bool) (string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("--web.listen-address: %w", err)
	}
	var c web.Config
	if webConfig != "" {
		if err := web.Validate(webConfig); err != nil {
			return "", fmt.Errorf("--web.config.file %s: %w", webConfig, err)
		}
		data, err := os.ReadFile(webConfig)
		if err != nil {
			return "", fmt.Errorf("--web.config.file: %w", err)
		}
		if err := yaml.UnmarshalStrict(data, &c); err != nil {
			return "", fmt.Errorf("--web.config.file: %s: %w", webConfig, err)
		}
	}
	encrypted := c.TLSConfig.TLSCert != "" || c.TLSConfig.TLSCertPath != ""
	// TLS alone does not ask who is there.
	authenticates := len(c.Users) > 0 || c.TLSConfig.ClientAuth == "RequireAndVerifyClientCert" || reviews
	addr, err := netip.ParseAddr(host)
	loopback := host == "localhost" || err == nil && addr.Unmap().IsLoopback()
	switch {
	case reviews && len(c.Users) > 0:
		return "", errors.New("web.authorization and basic_auth_users in --web.config.file exclude each other: both are in the header Authorization")
	case loopback:
	case !authenticates:
		return "", fmt.Errorf("--web.listen-address %s: listening beyond loopback needs authentication: "+
			"give basic_auth_users, or TLS with client_auth_type RequireAndVerifyClientCert, in --web.config.file", address)
	case reviews && !encrypted:
		return "", fmt.Errorf("--web.listen-address %s: tokens beyond loopback need TLS: give tls_server_config in --web.config.file", address)
	}
	return host, nil
}

func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: the port is in use, perhaps by another plumbline; stop it, or choose another with --web.listen-address", address)
	case err != nil:
		return nil, fmt.Errorf("--web.listen-address: %w", err)
	}
	return l, nil
}
