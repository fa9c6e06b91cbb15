package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// stateRoot holds one directory a lab. It is on a tmpfs of its own lifetime: a reboot ends labs and their state alike.
const stateRoot = "/run/plumbline/lab"

// state is what must outlive the process that called Up. It is written before the thing that it records is made, or
// removed after it is gone, so that Down finds everything after a crash.
type state struct {
	Spec      *Spec      `json:"spec"`
	Listeners []listener `json:"listeners,omitempty"`
	// Faults in the order in which they were injected.
	Faults []string `json:"faults,omitempty"`
	// Up is set when Up has finished.
	Up bool `json:"up"`
}

// listener is a process that serves a pod's ports. A pid alone may have been reused since.
type listener struct {
	Pod string `json:"pod"`
	PID int    `json:"pid"`
	// Start is the time of the process's start in clock ticks since boot, field 22 of /proc/PID/stat.
	Start uint64 `json:"start"`
	// Loopback tells that it serves 127.0.0.1 and ::1 only.
	Loopback bool `json:"loopback,omitempty"`
}

func readState(dir string) (*state, error) {
	data, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotUp
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	st := new(state)
	if err := json.Unmarshal(data, st); err != nil {
		return nil, fmt.Errorf("read state %s: %w", filepath.Join(dir, "state.json"), err)
	}
	if st.Spec == nil {
		return nil, fmt.Errorf("read state %s: no spec", filepath.Join(dir, "state.json"))
	}
	if err := st.Spec.validate(); err != nil {
		return nil, fmt.Errorf("read state %s: %w", filepath.Join(dir, "state.json"), err)
	}
	return st, nil
}

func (st *state) write(dir string) error {
	data, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := writeFile(filepath.Join(dir, "state.json"), data); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// writeFile replaces a file in one step: a reader, or a crash, sees the old one or the new one.
func writeFile(path string, data []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// digest is a stable name for something too long to be one.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
