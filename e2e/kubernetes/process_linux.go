package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

// patience bounds each wait for a condition: machines that run tests are slow
// at times.
const patience = 5 * time.Minute

// process is a part of the cluster that runs.
type process struct {
	name  string
	log   string
	cmd   *exec.Cmd
	ended chan struct{}
}

// processes are those of a cluster.
type processes struct {
	mu   sync.Mutex
	list []*process
}

// start starts a program in a place of the cluster.
func (c *Cluster) start(name, place string, argv ...string) error {
	log, err := os.Create(filepath.Join(c.dir, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	return c.launch(name, log.Name(), place, cmd)
}

// startContainer starts a program in the network namespace of a place, with a
// directory for /etc, and returns when it has that.
func (c *Cluster) startContainer(name, place, etc string, argv ...string) error {
	log, err := os.Create(filepath.Join(c.dir, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	ready, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	// Namespaces of others that are removed have to vanish from this one's mounts, too.
	cmd := exec.Command("unshare", append([]string{
		"--mount", "--propagation", "slave", "sh", "-c",
		`mount --bind "$0" /etc && exec 3>&- "$@"`, etc,
	}, argv...)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{write}
	err = c.launch(name, log.Name(), place, cmd)
	write.Close()
	if err != nil {
		return err
	}
	_, _ = ready.Read(make([]byte, 1)) // ends when the other end is closed
	return nil
}

func (c *Cluster) launch(name, log, place string, cmd *exec.Cmd) error {
	p := &process{name: name, log: log, cmd: cmd, ended: make(chan struct{})}
	p.cmd.Dir = c.dir
	// It must not outlive the tests, and Ctrl-C must not reach it before Stop.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := lab.InNetns(c.Netns(place), p.cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	c.processes.mu.Lock()
	defer c.processes.mu.Unlock()
	c.processes.list = append(c.processes.list, p)
	return nil
}

// pid is the number of a process.
func (c *Cluster) pid(name string) (int, error) {
	c.processes.mu.Lock()
	defer c.processes.mu.Unlock()
	i := slices.IndexFunc(c.processes.list, func(p *process) bool { return p.name == name })
	if i < 0 {
		return 0, fmt.Errorf("%s does not run", name)
	}
	return c.processes.list[i].cmd.Process.Pid, nil
}

// end asks a process to end, and waits until it has.
func (c *Cluster) end(name string) error {
	c.processes.mu.Lock()
	defer c.processes.mu.Unlock()
	i := slices.IndexFunc(c.processes.list, func(p *process) bool { return p.name == name })
	if i < 0 {
		return fmt.Errorf("%s does not run", name)
	}
	err := c.processes.list[i].end(syscall.SIGTERM)
	c.processes.list = slices.Delete(c.processes.list, i, i+1)
	return err
}

func (p *process) end(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s does not end", p.name)
	}
}

// stop kills all, the last first. Nothing that they hold is worth an orderly end.
func (ps *processes) stop() error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var errs []error
	for _, p := range slices.Backward(ps.list) {
		errs = append(errs, p.end(syscall.SIGKILL))
	}
	ps.list = nil
	return errors.Join(errs...)
}

// errEnded is of a part that has ended by itself: there is nothing to wait for.
var errEnded = errors.New("has ended")

// alive says in its error, errEnded, which have ended by themselves.
func (ps *processes) alive() error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.list {
		select {
		case <-p.ended:
			return fmt.Errorf("%s %w: %s", p.name, errEnded, p.cmd.ProcessState)
		default:
		}
	}
	return nil
}

// complaints are the last lines of the logs of those that have ended by
// themselves, or of all if none has.
func (ps *processes) complaints() error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var ended, all []error
	for _, p := range ps.list {
		text, _ := os.ReadFile(p.log)
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		err := fmt.Errorf("%s printed:\n%s", p.name, bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
		all = append(all, err)
		select {
		case <-p.ended:
			ended = append(ended, err)
		default:
		}
	}
	if len(ended) > 0 {
		return errors.Join(ended...)
	}
	return errors.Join(all...)
}

// await waits until a condition holds, as long as it is not errEnded. It says in its
// error what is missing.
func await(ctx context.Context, what string, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error // that is not about the end of patience itself
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
			if !errors.Is(err, errEnded) {
				continue
			}
		}
		return fmt.Errorf("wait until %s: %w", what, last)
	}
}
