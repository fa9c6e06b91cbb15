package exporter

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/plumbline-net/plumbline/simulator/bundle"
)

// soon is a limit of tests that wait for it to pass.
const soon = 50 * time.Millisecond

// impatient serves what the daemon does, within limits that pass soon. It returns the address.
func impatient(t *testing.T, handler http.Handler, write time.Duration) string {
	t.Helper()
	d, _ := newDaemon(t, Options{Bundle: sample})
	of := d.http
	if of.ReadHeaderTimeout <= 0 || of.ReadTimeout <= 0 || of.WriteTimeout <= 0 || of.IdleTimeout <= 0 || of.MaxHeaderBytes <= 0 {
		t.Fatalf("without limits: %+v", of)
	}
	server := httptest.NewUnstartedServer(of.Handler)
	if handler != nil {
		server.Config.Handler = handler
	}
	server.Config.ReadHeaderTimeout, server.Config.ReadTimeout, server.Config.WriteTimeout = soon, soon, write
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// say connects and sends text, and returns all that is answered until the server hangs up.
func say(t *testing.T, address, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestWhoSendsNothingMoreIsNotWaitedFor(t *testing.T) {
	address := impatient(t, nil, time.Minute)
	if answer := say(t, address, "GET /api/v1/schedules HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "); answer != "" && !strings.HasPrefix(answer, "HTTP/1.1 408 ") {
		t.Errorf("half a header is answered %q", answer)
	}
	answer := say(t, address, "POST /api/v1/diagnose HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
	if !strings.HasPrefix(answer, "HTTP/1.1 408 ") || !strings.Contains(answer, `{"error":{"code":"timeout","message":"the body did not come in time"}}`) {
		t.Errorf("half a body is answered %q", answer)
	}
}

func TestWhoReadsNothingMoreIsNotWaitedFor(t *testing.T) {
	ended := make(chan error, 1)
	e := echo.New()
	e.GET("/", func(c echo.Context) error {
		for {
			if _, err := c.Response().Write(make([]byte, 1<<20)); err != nil {
				ended <- err
				return err
			}
		}
	}, patiently(soon))
	conn, err := net.Dial("tcp", impatient(t, e, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the answer ends with %v", err)
	}
}

func TestWhoReadsSlowlyGetsItAll(t *testing.T) {
	const size = 3*pieceSize + 1
	e := echo.New()
	answer := func(c echo.Context) error { _, err := c.Response().Write(bytes.Repeat([]byte("~"), size)); return err }
	e.GET("/hasty", answer)
	e.GET("/patient", answer, patiently(time.Minute))
	address := impatient(t, e, 1) // which has passed before anything is written
	for path, want := range map[string]int{"/hasty": 0, "/patient": size} {
		if got := strings.Count(say(t, address, "GET "+path+" HTTP/1.0\r\n\r\n"), "~"); got != want {
			t.Errorf("%s: %d bytes of %d", path, got, want)
		}
	}
}

func TestABundleIsForSlowReadersToo(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample})
	if _, err := d.network.View(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/bundle", http.NoBody)
	r.Host = "127.0.0.1"
	d.http.Handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.set == 0 {
		t.Errorf("%d, the deadline was set %d times", w.Code, w.set)
	}
}

// Each takes a processor, and memory.
func TestOneBundleIsGivenAtATime(t *testing.T) {
	d, _ := newDaemon(t, Options{Bundle: sample})
	if _, err := d.network.View(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	var meanwhile *httptest.ResponseRecorder
	w := &whileWriting{ResponseRecorder: httptest.NewRecorder(), do: sync.OnceFunc(func() { meanwhile = ask(t, d, "GET", "/api/v1/bundle", "") })}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/bundle", http.NoBody)
	r.Host = "127.0.0.1"
	d.http.Handler.ServeHTTP(w, r)
	if _, err := bundle.ReadArchive(w.Body); err != nil || w.Code != http.StatusOK {
		t.Errorf("who came first: %d %v", w.Code, err)
	}
	if meanwhile.Code != http.StatusTooManyRequests || meanwhile.Header().Get("Retry-After") == "" || meanwhile.Header().Get("Content-Disposition") != "" ||
		!strings.Contains(meanwhile.Body.String(), `"code":"too-many-requests"`) {
		t.Errorf("meanwhile: %d %v %.200s", meanwhile.Code, meanwhile.Header(), meanwhile.Body)
	}
	if w := ask(t, d, "GET", "/api/v1/bundle", ""); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d", w.Code)
	}
}

// whileWriting does something before it takes what is written.
type whileWriting struct {
	*httptest.ResponseRecorder
	do func()
}

func (w *whileWriting) Write(p []byte) (int, error) {
	w.do()
	return w.ResponseRecorder.Write(p)
}

// deadlines counts how often a deadline is set.
type deadlines struct {
	*httptest.ResponseRecorder
	set int
}

func (d *deadlines) SetWriteDeadline(time.Time) error { d.set++; return nil }
