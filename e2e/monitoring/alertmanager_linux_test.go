package monitoring

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// notification is what Alertmanager tells a webhook of one alert.
type notification struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// key tells alerts apart: their labels, in order.
func (n notification) key() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(n.Labels)) {
		fmt.Fprintf(&b, "%s=%q ", name, n.Labels[name])
	}
	return b.String()
}

// receiver is a webhook.
type receiver struct {
	mu       sync.Mutex
	received []notification
	bad      []error
}

func startReceiver(t *testing.T) (r *receiver, url string) {
	t.Helper()
	r = &receiver{}
	server := httptest.NewServer(r)
	t.Cleanup(func() {
		server.Close()
		for _, err := range r.bad {
			t.Errorf("webhook: %v", err)
		}
	})
	return r, server.URL
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var message struct {
		Alerts []notification `json:"alerts"`
	}
	err := json.NewDecoder(req.Body).Decode(&message)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.bad = append(r.bad, err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.received = append(r.received, message.Alerts...)
}

// firing returns the alerts of that name that have fired and were not resolved, by their schedule and path.
func (r *receiver) firing(alert string) map[string]notification {
	return r.current(alert, "firing")
}

// resolved returns those that were resolved and have not fired again.
func (r *receiver) resolved(alert string) map[string]notification {
	return r.current(alert, "resolved")
}

func (r *receiver) current(alert, status string) map[string]notification {
	r.mu.Lock()
	defer r.mu.Unlock()
	latest := map[string]notification{}
	for _, n := range r.received {
		if n.Labels["alertname"] == alert {
			latest[n.key()] = n
		}
	}
	found := map[string]notification{}
	for _, n := range latest {
		if n.Status == status {
			found[strings.TrimSpace(n.Labels["schedule"]+" "+n.Labels["path"])] = n
		}
	}
	return found
}

// startAlertmanager tells a webhook of alerts, each by itself, and returns its address.
func startAlertmanager(t *testing.T, webhook string) string {
	t.Helper()
	address := freeAddress(t)
	config := writeFile(t, "alertmanager.yaml", fmt.Sprintf(`
route: {receiver: test, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers:
- name: test
  webhook_configs: [{url: %q, send_resolved: true}]
`, webhook))
	start(t, lookUp(t, "prometheus-alertmanager"),
		"--config.file="+config,
		"--storage.path="+filepath.Join(t.TempDir(), "data"),
		"--web.listen-address="+address,
		"--cluster.listen-address=", // alone
		"--log.level=warn")
	await(t, "Alertmanager is ready", func() error {
		_, err := get(t.Context(), "http://"+address+"/-/ready")
		return err
	})
	return address
}
