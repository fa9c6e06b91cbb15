package exporter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/errgroup"

	"github.com/plumbline-net/plumbline/kubernetes"
	"github.com/plumbline-net/plumbline/privsep"
	"github.com/plumbline-net/plumbline/schedules"
)

// instructions are what the half of an agent that serves needs of the configuration,
// which it may not be able to read.
type instructions struct {
	Web        schedules.Web
	Kubernetes schedules.Kubernetes
}

func instructionsOf(config *schedules.Config) instructions {
	return instructions{config.Web, config.Kubernetes}
}

// ServingError says that the process that serves has ended by itself. It has said
// why.
type ServingError struct {
	Status int // -1 if a signal has ended it
	err    error
}

func (e *ServingError) Error() string {
	return fmt.Sprintf("the half that serves has ended: %v", e.err)
}

// serving is the process that serves for an agent, as the agent sees it.
type serving struct {
	child   *privsep.Child
	handler http.Handler
	log     *slog.Logger
	ending  chan struct{}
	end     func()
}

func newServing(options *Options, config *schedules.Config, handler http.Handler) (*serving, error) {
	child, err := options.Serve()
	if err != nil {
		return nil, err
	}
	s := &serving{child: child, handler: handler, log: options.Log, ending: make(chan struct{})}
	s.end = sync.OnceFunc(func() { close(s.ending) })
	s.instruct(config)
	return s, nil
}

// instruct hands on a configuration. A process that has ended needs none.
func (s *serving) instruct(config *schedules.Config) {
	if err := s.child.Instruct(instructionsOf(config)); err != nil {
		s.log.Debug("the half that serves was not told of the configuration", "err", err)
	}
}

// serve answers the process until it has ended, which is an error before shutdown.
func (s *serving) serve() (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	closed := make(chan struct{})
	var failed error // once it is closed
	go func() {
		defer close(closed)
		failed = privsep.Serve(ctx, s.child.Channel, s.handler, s.log)
	}()
	defer func() { cancel(); <-closed }()
	select {
	case <-s.ending:
	case <-s.child.Done():
	case <-closed: // as when it is about to end
		err = failed
	}
	s.child.End()
	select {
	case <-s.child.Done():
	case <-time.After(shutdownTimeout + 5*time.Second):
		return errors.New("the half that serves does not end")
	}
	select {
	case <-s.ending:
		return err
	default:
		return s.failure()
	}
}

func (s *serving) failure() error {
	status, err := s.child.Status()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return &ServingError{status, err}
}

func (s *serving) shutdown() error {
	s.end()
	return nil
}

func (s *serving) close() { s.child.Close() }

// Front is the half of an agent that serves: it listens, finds out who asks, and
// hands on what they may ask to the half with privileges.
type Front struct {
	*endpoint
	metricsAt    *endpoint // nil unless the metrics have an address of their own
	client       *privsep.Client
	reviewer     *kubernetes.Reviewer
	instructions *json.Decoder
	config       atomic.Pointer[schedules.Config]
}

// NewFront reads the first instructions of the half with privileges, and begins to
// listen. It owns the client.
func NewFront(options Options, client *privsep.Client, from io.Reader) (*Front, error) {
	options.Role = RoleAgent
	options.defaults()
	f := &Front{client: client, instructions: json.NewDecoder(from)}
	if err := f.obey(); err != nil {
		client.Close()
		return nil, fmt.Errorf("instructions of the half with privileges: %w", err)
	}
	config := f.config.Load()
	var err error
	if f.endpoint, f.metricsAt, err = newEndpoints(&options, config); err != nil {
		client.Close()
		return nil, err
	}
	if f.reviewer, err = newReviewer(config.Web, config.Kubernetes); err != nil {
		f.Close()
		return nil, err
	}
	s := &server{config: f.config.Load, log: options.Log, listen: f.endpoint.host, proof: f.endpoint.proof, reviewer: f.reviewer}
	privileged := s.handOn(client)
	f.endpoint.http.Handler = s.agentHandler(privileged)
	if f.metricsAt != nil {
		own := &server{config: f.config.Load, log: options.Log, listen: f.metricsAt.host}
		f.metricsAt.http.Handler = own.metricsHandler(echo.WrapHandler(privileged))
	}
	return f, nil
}

// obey reads instructions.
func (f *Front) obey() error {
	var i instructions
	if err := f.instructions.Decode(&i); err != nil {
		return err
	}
	f.config.Store(&schedules.Config{Web: i.Web, Kubernetes: i.Kubernetes})
	return nil
}

// Run serves until ctx or the instructions end, or the other half does.
func (f *Front) Run(ctx context.Context) error {
	defer f.Close()
	group, ctx := errgroup.WithContext(ctx)
	ctx, end := context.WithCancel(ctx)
	defer end()
	group.Go(f.serve)
	if f.metricsAt != nil {
		group.Go(f.metricsAt.serve)
	}
	group.Go(func() error {
		<-ctx.Done()
		return errors.Join(f.shutdown(), f.metricsAt.shutdown())
	})
	// Not in the group: reading cannot be broken off.
	go func() {
		defer end()
		for f.obey() == nil {
		}
	}()
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-f.client.Gone():
			return errors.New("the half with privileges is gone")
		}
	})
	return group.Wait()
}

// Close ends listening, and the channel.
func (f *Front) Close() {
	if f.reviewer != nil {
		f.reviewer.Close()
	}
	f.endpoint.close()
	f.metricsAt.close()
	f.client.Close()
}

// handOn answers with what the half with privileges answers. Of the headers only
// those go through that matter there: no tokens.
func (s *server) handOn(client *privsep.Client) http.Handler {
	return &httputil.ReverseProxy{
		Transport: client,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Header = make(http.Header)
			for _, name := range []string{"Accept", "Accept-Encoding", "Content-Type", "If-None-Match"} {
				if values := r.In.Header[name]; values != nil {
					r.Out.Header[name] = values
				}
			}
		},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			s.log.Warn("the half with privileges does not answer", "err", err)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"error":{"code":"not-answered","message":"the part of the agent that collects does not answer"}}`+"\n")
		},
	}
}
