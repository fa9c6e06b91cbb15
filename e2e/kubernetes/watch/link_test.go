//go:build k8s && linux

package watch_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// link carries connections to an address, and holds up each byte for a while, either way:
// as many bytes come out as go in, but late. It may be cut.
type link struct {
	delay atomic.Int64 // a time.Duration

	mu   sync.Mutex
	open []net.Conn
	away bool // connections are broken off
}

// cut breaks off all connections, also new ones, until the link is mended.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = true
	for _, conn := range l.open {
		conn.Close()
	}
	l.open = nil
}

func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = false
}

// keep says whether the connections may go on.
func (l *link) keep(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.away {
		l.open = append(l.open, conns...)
	}
	return !l.away
}

// listen carries connections until the test ends. It returns its address.
func (l *link) listen(t testing.TB, to string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		l.cut()
		running.Wait()
	})
	running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil || !l.keep(near, far) {
				near.Close()
				if err == nil {
					far.Close()
				}
				continue
			}
			running.Go(func() { l.carry(near, far) })
			running.Go(func() { l.carry(far, near) })
		}
	})
	return listener.Addr().String()
}

// carry ends when either end does, and then ends both.
func (l *link) carry(from, to net.Conn) {
	type piece struct {
		data []byte
		read time.Time
	}
	pieces := make(chan piece, 1024)
	var writing sync.WaitGroup
	writing.Go(func() {
		for p := range pieces {
			time.Sleep(time.Until(p.read.Add(time.Duration(l.delay.Load()))))
			if _, err := to.Write(p.data); err != nil {
				from.Close()
			}
		}
	})
	for buffer := make([]byte, 64<<10); ; {
		n, err := from.Read(buffer)
		if n > 0 {
			pieces <- piece{append([]byte(nil), buffer[:n]...), time.Now()}
		}
		if err != nil {
			break
		}
	}
	close(pieces)
	writing.Wait()
	from.Close()
	to.Close()
}
