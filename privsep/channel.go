package privsep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// maxRequests is how many requests of the other half are answered at the same time;
// further ones wait.
const maxRequests = 32

// maxRequestBody bounds what a request brings, in bytes.
const maxRequestBody = 64 << 10

// authority stands where the URL of a request needs one: the channel leads to one
// place only.
const authority = "privileged"

// unencryptedHTTP2 multiplexes requests over the one connection that there is.
func unencryptedHTTP2() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// Serve answers with handler what comes through the channel, until the other half
// closes it, which is no error, or ctx ends. It closes the channel.
func Serve(ctx context.Context, channel net.Conn, handler http.Handler, log *slog.Logger) error {
	conn := watch(channel)
	server := &http.Server{
		Handler:        http.MaxBytesHandler(handler, maxRequestBody),
		Protocols:      unencryptedHTTP2(),
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: maxRequests},
		MaxHeaderBytes: 16 << 10,
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err := server.Serve(&single{conn: conn, ended: conn.closed})
	_ = server.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("the channel between the halves: %w", err)
}

// Client sends requests through the channel. It implements http.RoundTripper;
// the host of their URLs is ignored.
type Client struct {
	channel *watched
	conn    *http.ClientConn
}

// NewClient makes the channel's client. It owns the channel.
func NewClient(ctx context.Context, channel net.Conn) (*Client, error) {
	c := &Client{channel: watch(channel)}
	transport := &http.Transport{
		Protocols:          unencryptedHTTP2(),
		DisableCompression: true,
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return c.channel, nil },
	}
	var err error
	if c.conn, err = transport.NewClientConn(ctx, "http", authority+":80"); err != nil {
		c.channel.Close()
		return nil, fmt.Errorf("the channel between the halves: %w", err)
	}
	return c, nil
}

// RoundTrip implements http.RoundTripper.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = "http", authority, authority
	return c.conn.RoundTrip(r)
}

// Gone is closed when the other half has ended.
func (c *Client) Gone() <-chan struct{} { return c.channel.closed }

// Close closes the channel.
func (c *Client) Close() { c.conn.Close() }

// watched is a connection that tells when it was closed, from either side: both
// HTTP's server and its client read always, and close what they cannot read.
type watched struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func watch(conn net.Conn) *watched { return &watched{Conn: conn, closed: make(chan struct{})} }

func (w *watched) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// single is a listener that has one connection to accept, and ends with it.
type single struct {
	conn  net.Conn
	taken bool
	ended <-chan struct{}
}

// Accept implements net.Listener.
func (s *single) Accept() (net.Conn, error) {
	if !s.taken {
		s.taken = true
		return s.conn, nil
	}
	<-s.ended
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (s *single) Close() error { return nil }

// Addr implements net.Listener.
func (s *single) Addr() net.Addr { return s.conn.LocalAddr() }
