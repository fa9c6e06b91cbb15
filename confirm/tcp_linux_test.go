package confirm

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// TestServersOfAllKinds sends to servers that end a connection in their own ways, and wants them to see it end in good order.
func TestServersOfAllKinds(t *testing.T) {
	// read is what a server does that takes what comes until the end, and returns how it ended.
	read := func(c *net.TCPConn) error {
		n, err := io.Copy(io.Discard, c)
		if n > 0 {
			return errors.New("somebody said something")
		}
		return err
	}
	for name, test := range map[string]struct {
		serve func(*net.TCPConn) error
		want  verdict.Outcome
	}{
		"one that waits":               {read, verdict.OutcomeEstablished},
		"one that closes at once":      {func(*net.TCPConn) error { return nil }, verdict.OutcomeEstablished},
		"one that greets":              {func(c *net.TCPConn) error { _, _ = c.Write([]byte("hello\r\n")); return read(c) }, verdict.OutcomeEstablished},
		"one that greets at the end":   {func(c *net.TCPConn) error { err := read(c); _, _ = c.Write([]byte("bye\r\n")); return err }, verdict.OutcomeEstablished},
		"one that never stops to talk": {func(c *net.TCPConn) error { _, _ = io.Copy(c, endless{}); return nil }, verdict.OutcomeEstablished},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv6loopback})
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			served := make(chan error, 1)
			go func() {
				c, err := listener.AcceptTCP()
				if err == nil {
					err = test.serve(c)
					c.Close()
				}
				served <- err
			}()
			to := listener.Addr().(*net.TCPAddr).AddrPort()
			p := Probe{Protocol: verdict.TCP, Destination: to.Addr(), Port: to.Port(), Timeout: MaxTimeout}
			began := time.Now()
			seen, err := Send(t.Context(), func(fn func() error) error { return fn() }, p)
			if err != nil || seen.Outcome != test.want {
				t.Errorf("got %+v, %v; want %s", seen, err, test.want)
			}
			if took := time.Since(began); took > p.Timeout {
				t.Errorf("it took %s", took)
			}
			if err := <-served; err != nil {
				t.Errorf("the server has seen %v", err)
			}
		})
	}
}

// endless is what there is always more of.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
