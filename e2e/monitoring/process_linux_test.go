package monitoring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/e2e/against"
)

// patience is how long anything may take: more than a busy machine needs. Nothing waits for it that goes well.
const patience = 3 * time.Minute

// debianPackage of each program that is not built here.
var debianPackage = map[string]string{
	"prometheus":              "prometheus",
	"promtool":                "prometheus",
	"prometheus-alertmanager": "prometheus-alertmanager",
}

// lookUp finds a program. A machine without it is not set up for these tests, which is no reason to skip them.
func lookUp(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: apt-get install %s", name, debianPackage[name])
	}
	return path
}

// start runs a server until the test ends. What it prints is shown if the test failed.
func start(t *testing.T, program string, args ...string) {
	t.Helper()
	name := filepath.Base(program)
	out, err := os.CreateTemp(t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	// A test that is killed must not leave servers behind. The signal comes when the thread that started the process
	// ends, so that this one has to last.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() {
		defer out.Close()
		select {
		case err := <-ended:
			t.Errorf("%s ended by itself: %v", name, err)
		default:
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			case <-time.After(patience):
				t.Errorf("%s does not end when asked to", name)
				_ = cmd.Process.Kill()
				<-ended
			}
		}
		if t.Failed() {
			text, err := os.ReadFile(out.Name())
			t.Logf("%s printed (%v):\n%s", name, err, text)
		}
	})
}

// freeAddress returns an address on loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// await waits until a condition holds. The condition says in its error what is missing.
func await(t *testing.T, what string, condition func() error) {
	t.Helper()
	if err := against.Await(t, patience, 200*time.Millisecond, condition); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", url, err, body)
	}
	return body, nil
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
