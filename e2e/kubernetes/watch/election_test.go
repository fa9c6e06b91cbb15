//go:build k8s && linux

package watch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/witness"
)

// controller is a process of its own, which may be killed.
type controller struct {
	cmd  *exec.Cmd
	url  string
	http *http.Client
}

func (s *apiServer) controller(t *testing.T, program, config string) *controller {
	t.Helper()
	address := "127.0.0.1:" + freePort(t)
	c := &controller{
		cmd:  s.run("controller", program, "controller", "--config", config, "--web.listen-address", address),
		url:  "http://" + address,
		http: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	s.stopAtEnd(c.cmd)
	return c
}

type scheduleStatus struct {
	Leading   bool
	Schedules []struct {
		Name    string
		LastRun *time.Time
	}
}

func (c *controller) status(ctx context.Context) (status scheduleStatus, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/api/v1/schedules", nil)
	if err != nil {
		return status, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return status, err
	}
	defer resp.Body.Close()
	return status, json.NewDecoder(resp.Body).Decode(&status)
}

// runs says that the controller leads, and that its schedule ran after a time.
func (c *controller) runs(ctx context.Context, after time.Time) error {
	status, err := c.status(ctx)
	switch {
	case err != nil:
		return err
	case !status.Leading:
		return errors.New("it does not lead")
	case len(status.Schedules) != 1 || status.Schedules[0].LastRun == nil || !status.Schedules[0].LastRun.After(after):
		return fmt.Errorf("it has not run its schedule since: %+v", status.Schedules)
	}
	return nil
}

// idles says that the controller leaves schedules to another.
func (c *controller) idles(ctx context.Context) error {
	status, err := c.status(ctx)
	if err == nil && (status.Leading || len(status.Schedules) != 0) {
		err = fmt.Errorf("it leads, or has schedules: %+v", status)
	}
	return err
}

// soon demands that schedules went on, since a leader was lost, in the time that docs/roles.md gives: a lease and a half, and what
// agents let the leader do. It leaves the same again, and more, to a busy machine.
func (s *apiServer) soon(what string, lost time.Time, lease time.Duration) {
	s.t.Helper()
	took := time.Since(lost)
	s.t.Logf("%s after %.1f s, with a lease of %s", what, took.Seconds(), lease)
	if took > 2*lease+3*witness.Grant {
		s.t.Error("that is too late")
	}
}

// build returns the path of the program, which is built for the test.
func build(t testing.TB) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "plumbline")
	if out, err := exec.Command("go", "build", "-o", program, "../../../cmd/plumbline").CombinedOutput(); err != nil {
		t.Fatalf("building plumbline: %v\n%s", err, out)
	}
	return program
}

func TestOneOfTwoControllersRunsSchedules(t *testing.T) {
	s := start(t)
	program := build(t)
	const lease = 3 * time.Second
	config := filepath.Join(s.dir, "plumbline.yaml")
	text := fmt.Sprintf(`
kubernetes: {kubeconfig: %q}
web: {authorization: loopback}
controller:
  lease: {namespace: default, name: plumbline, duration: %s}
  agents:
  - {node: node-1, url: %q}
schedules:
- {name: a, cron: "@every 1s", from: "ns:node-1/example-shop-web-0", to: "ns:node-1/example-shop-api-0", port: 8080}
`, s.kubeconfig(adminToken), lease, listen(t, agentOf(sample(t), "node-1")))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// both asks until a condition holds, and never finds both leading at once.
	both := func(what string, a, b *controller, condition func(context.Context) error) {
		t.Helper()
		s.await(what, func(ctx context.Context) error {
			first, err1 := a.status(ctx)
			second, err2 := b.status(ctx)
			third, err3 := a.status(ctx)
			if err1 == nil && err2 == nil && err3 == nil && first.Leading && second.Leading && third.Leading {
				t.Errorf("%s: two lead at once", what)
			}
			return condition(ctx)
		})
	}
	first := s.controller(t, program, config)
	s.await("the first one runs its schedule", func(ctx context.Context) error { return first.runs(ctx, time.Time{}) })
	second := s.controller(t, program, config)
	both("the second one waits", first, second, second.idles)
	now := time.Now()
	both("the first one goes on", first, second, func(ctx context.Context) error { return errors.Join(first.runs(ctx, now), second.idles(ctx)) })

	// Killed: it cannot let go of the lease, which has to run out.
	killed := time.Now()
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	both("the second one takes over", first, second, func(ctx context.Context) error { return second.runs(ctx, killed) })
	s.soon("schedules went on when the leader was killed", killed, lease)

	// Stopped for a while, and then going on as if nothing had been.
	third := s.controller(t, program, config)
	both("the third one waits", third, second, third.idles)
	stopped := time.Now()
	if err := second.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.await("the third one takes over", func(ctx context.Context) error { return third.runs(ctx, stopped) })
	s.soon("schedules went on when the leader was stopped", stopped, lease)
	if err := second.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	both("the one that had been stopped sees that it does not lead", third, second, second.idles)
	both("the third one goes on", third, second, func(ctx context.Context) error { return third.runs(ctx, time.Time{}) })

	// Asked to end: it lets go of the lease, so that nobody has to wait.
	ended := time.Now()
	if err := third.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	both("the second one leads again", third, second, func(ctx context.Context) error { return second.runs(ctx, ended) })
	s.soon("schedules went on when the leader was asked to end", ended, lease)

	// Without the API server nobody can renew the lease, and the agent lets the leader go on.
	s.down()
	away := time.Now()
	s.await("the leader goes on without the API server", func(ctx context.Context) error {
		if status, err := second.status(ctx); err == nil && !status.Leading {
			t.Errorf("it stopped after %.1f s, with a lease of %s", time.Since(away).Seconds(), lease)
		}
		return second.runs(ctx, away.Add(3*lease))
	})
	s.up()
	again := time.Now()
	s.await("it leads when the API server is back", func(ctx context.Context) error { return second.runs(ctx, again) })

	object, err := s.resource("coordination.k8s.io/v1", "leases", "default").Get(t.Context(), "plumbline", metav1.GetOptions{})
	if err != nil || object.GetName() != "plumbline" {
		t.Errorf("the lease: %v", err)
	}
}
