package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/snapshot"
	"github.com/plumbline-net/plumbline/witness"
)

// Limits of the server. A diagnosis may have to wait for a collection. What is
// megabytes may take a slow reader as long as it takes (patiently).
const (
	maxBody       = "64K"
	maxHeader     = 64 << 10
	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second
	answerTimeout = collectTimeout + 10*time.Second
	writeTimeout  = answerTimeout + 50*time.Second
	idleTimeout   = 2 * time.Minute
	pieceSize     = 64 << 10
	pieceTimeout  = 30 * time.Second
)

// apiError is an answer that is not a success: the body is
// {"error":{"code","message"}}.
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string { return e.message }

func fail(status int, code, format string, args ...any) error {
	return &apiError{status, code, fmt.Sprintf(format, args...)}
}

// server answers HTTP requests from a runner and a network.
type server struct {
	network      *network
	runner       *schedules.Runner
	metrics      *metrics
	confirmation *confirmation
	config       func() *schedules.Config
	reload       func() error
	leads        func() bool // whether schedules run here
	log          *slog.Logger
	// reviewer says who may do what; nil for whoever gets here.
	reviewer *kubernetes.Reviewer
	// listen is the host part of the address that was asked to listen on.
	listen string
	// proof is what callers had to show before they got here.
	proof proof
	// diagnoses and confirms bound what each caller may ask for, strangers how many unknown
	// tokens are asked about.
	diagnoses, confirms, strangers limits
	bundling                       sync.Mutex // a bundle
}

// handler answers those who ask about paths.
func (s *server) handler() *echo.Echo {
	e := s.base(s.ready, s.reloadConfig, s.scrape())
	reports := func(next echo.HandlerFunc) echo.HandlerFunc { return s.only(onResource("list", "reports", ""), next) }
	e.Match(getOrHead, "/", reports(s.page))
	e.Match(getOrHead, "/openapi.json", s.openAPI)
	e.Match(getOrHead, "/api/v1/diagnose", s.diagnoseGet)
	e.POST("/api/v1/diagnose", s.diagnosePost)
	e.Match(getOrHead, "/api/v1/reports", reports(s.reports))
	e.Match(getOrHead, "/api/v1/reports/:id", reports(s.report))
	e.Match(getOrHead, "/api/v1/schedules", reports(s.schedules))
	e.Match(getOrHead, "/api/v1/bundle", s.only(onResource("get", "snapshots", ""), s.bundle), patiently(pieceTimeout))
	return e
}

// agentHandler answers controllers, with what the half with privileges answers; who leads
// it remembers itself.
func (s *server) agentHandler(privileged http.Handler) *echo.Echo {
	pass := echo.WrapHandler(privileged)
	e := s.base(pass, pass, pass)
	for _, path := range []string{snapshot.ManifestPath, snapshot.BlobPath + ":hash"} {
		e.GET(path, s.only(onResource("get", "snapshots", ""), pass), patiently(pieceTimeout))
	}
	e.POST(confirm.ProbePath, s.only(onResource("create", "probes", ""), pass))
	e.POST(witness.Path, s.only(onResource("update", "leaders", ""), echo.WrapHandler(witness.New())))
	return e
}

// privileged answers the half of an agent that serves: this is all that it can ask
// for. Who asks it was seen to there.
func (s *server) privileged(state, probes http.Handler) *echo.Echo {
	e := s.bare()
	e.GET(snapshot.ManifestPath, echo.WrapHandler(state))
	e.GET(snapshot.BlobPath+":hash", echo.WrapHandler(state))
	e.POST(confirm.ProbePath, echo.WrapHandler(probes))
	e.Match(getOrHead, "/-/ready", s.ready)
	e.POST("/-/reload", s.reloadConfig)
	e.Match(getOrHead, "/metrics", s.scrape())
	return e
}

var getOrHead = []string{http.MethodGet, http.MethodHead}

// base answers what every role does, and guards what it answers.
func (s *server) base(ready, reload, metrics echo.HandlerFunc) *echo.Echo {
	e := s.bare()
	e.Use(s.checkHost, s.checkOrigin, s.protect, s.authenticate)
	e.Match(getOrHead, "/-/healthy", s.healthy)
	e.Match(getOrHead, "/-/ready", ready)
	e.POST("/-/reload", s.only(onPath("post", "/-/reload"), reload))
	if s.config().Web.MetricsListenAddress == "" {
		e.Match(getOrHead, "/metrics", s.only(onPath("get", "/metrics"), metrics))
	}
	return e
}

// metricsHandler answers whoever may get to the metrics' own address.
func (s *server) metricsHandler(metrics echo.HandlerFunc) *echo.Echo {
	e := s.bare()
	e.Use(s.checkHost, s.protect)
	e.Match(getOrHead, "/-/healthy", s.healthy)
	e.Match(getOrHead, "/metrics", metrics)
	return e
}

// bare answers nothing yet, within limits.
func (s *server) bare() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.writeError
	e.Use(s.recoverPanics, middleware.BodyLimit(maxBody), s.limitTime)
	return e
}

// scrape answers with the metrics.
func (s *server) scrape() echo.HandlerFunc {
	return echo.WrapHandler(promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelError),
		ErrorHandling:     promhttp.ContinueOnError,
		EnableOpenMetrics: true,
	}))
}

// writeError answers with JSON, whoever the error comes from.
func (s *server) writeError(err error, c echo.Context) {
	if c.Response().Committed {
		s.log.Warn("answer broken off", "path", c.Request().URL.Path, "err", err)
		return
	}
	answer := &apiError{http.StatusInternalServerError, "internal", "an internal error occurred; the log says more"}
	var own *apiError
	var echos *echo.HTTPError
	switch {
	case errors.As(err, &own):
		answer = own
	case errors.Is(err, context.DeadlineExceeded):
		answer = &apiError{http.StatusGatewayTimeout, "timeout", err.Error()}
	case errors.Is(err, context.Canceled):
		answer = &apiError{http.StatusServiceUnavailable, "shutting-down", err.Error()}
	case errors.As(err, &echos):
		answer = translate(echos, c)
	}
	if answer.status >= http.StatusInternalServerError {
		s.log.Error("request failed", "method", c.Request().Method, "path", c.Request().URL.Path, "status", answer.status, "err", err)
	}
	if c.Request().Method == http.MethodHead {
		err = c.NoContent(answer.status)
	} else {
		err = c.JSON(answer.status, map[string]any{"error": map[string]string{"code": answer.code, "message": answer.message}})
	}
	if err != nil {
		s.log.Debug("answer not written", "err", err)
	}
}

// translate words the errors that echo makes itself.
func translate(err *echo.HTTPError, c echo.Context) *apiError {
	switch err.Code {
	case http.StatusNotFound:
		return &apiError{err.Code, "not-found", fmt.Sprintf("there is no %s; / lists what there is", c.Request().URL.Path)}
	case http.StatusMethodNotAllowed:
		return &apiError{err.Code, "method-not-allowed", fmt.Sprintf("%s does not do %s, only %s",
			c.Request().URL.Path, c.Request().Method, c.Response().Header().Get(echo.HeaderAllow))}
	case http.StatusRequestEntityTooLarge:
		return &apiError{err.Code, "too-large", "the body is larger than " + maxBody + "iB"}
	}
	return &apiError{err.Code, "http", fmt.Sprint(err.Message)}
}

func (s *server) recoverPanics(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
				panic(p)
			}
			s.log.Error("panic while answering", "path", c.Request().URL.Path, "panic", p, "stack", string(debug.Stack()))
			err = fail(http.StatusInternalServerError, "internal", "an internal error occurred; the log says more")
		}()
		return next(c)
	}
}

// checkHost refuses names that do not mean this server: a web page can make its
// own name resolve to 127.0.0.1 and then read the answers (DNS rebinding).
func (s *server) checkHost(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if !s.hostAllowed(c.Request()) {
			return fail(http.StatusForbidden, "host-not-allowed",
				"host %q is not a name of this server; web.allowedHosts in the configuration adds names", c.Request().Host)
		}
		return next(c)
	}
}

func (s *server) hostAllowed(r *http.Request) bool {
	host := strings.ToLower(strings.TrimSuffix(hostOnly(r.Host), "."))
	if host == "" {
		return false
	}
	if host == "localhost" || host == strings.ToLower(s.listen) {
		return true
	}
	for _, allowed := range s.config().Web.AllowedHosts {
		if host == strings.ToLower(allowed) {
			return true
		}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if addr.Unmap().IsLoopback() {
		return true
	}
	// A server that listens everywhere listens on the address that the
	// connection came to.
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap() == addr.Unmap()
}

// hostOnly strips the port and brackets of a Host header.
func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
}

// checkOrigin refuses requests that change something and that a browser sends
// on behalf of another site.
func (s *server) checkOrigin(next echo.HandlerFunc) echo.HandlerFunc {
	protection := http.NewCrossOriginProtection()
	return func(c echo.Context) error {
		if err := protection.Check(c.Request()); err != nil {
			return fail(http.StatusForbidden, "cross-origin", "%s requests from the pages of other sites are refused", c.Request().Method)
		}
		return next(c)
	}
}

// protect sets what makes a browser keep the answers to itself.
func (s *server) protect(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		return next(c)
	}
}

func (s *server) limitTime(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		ctx, cancel := context.WithTimeout(c.Request().Context(), answerTimeout)
		defer cancel()
		c.SetRequest(c.Request().WithContext(ctx))
		return next(c)
	}
}
