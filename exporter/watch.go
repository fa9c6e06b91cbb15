package exporter

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settleTime is how long a file must be left alone before it is read: editors
// write in several steps.
const settleTime = 200 * time.Millisecond

// watch reloads the configuration when its file changes. The directory is
// watched rather than the file, and contents are compared rather than events
// interpreted, because a file changes in many ways: written, renamed over, or
// behind a symbolic link that Kubernetes points elsewhere.
func (d *Daemon) watch(ctx context.Context) {
	file := d.options.ConfigFile
	if file == "" {
		return
	}
	// Before watching begins, so that no change falls between.
	seen := fingerprint(file)
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		defer watcher.Close()
		err = watcher.Add(filepath.Dir(file))
	}
	if err != nil {
		d.log.Warn("configuration is not watched; reload it with SIGHUP", "err", err)
		return
	}
	settled := time.NewTimer(0) // once at first, for what changed since New
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-watcher.Events:
			if !ok {
				return
			}
			settled.Reset(settleTime)
		case err := <-watcher.Errors:
			d.log.Warn("watching the configuration", "err", err)
			settled.Reset(settleTime) // an event may have been lost
		case <-settled.C:
			now := fingerprint(file)
			if now == seen {
				continue
			}
			seen = now
			_ = d.Reload() // which logs and counts its errors
		}
	}
}

// fingerprint is of the file's content; that of a file that cannot be read is
// zero, so that it is looked at when it can be again.
func fingerprint(file string) [sha256.Size]byte {
	data, err := os.ReadFile(file)
	if err != nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(data)
}
