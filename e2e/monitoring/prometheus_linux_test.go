package monitoring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

// prometheus is a running Prometheus.
type prometheus struct{ url string }

// startPrometheus scrapes target each second, as the job plumbline, evaluates a hastened copy of the rules and tells
// the Alertmanager at that address.
func startPrometheus(t *testing.T, target, alertmanager, rules string) prometheus {
	t.Helper()
	address := freeAddress(t)
	config := writeFile(t, "prometheus.yaml", fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
alerting:
  alertmanagers:
  - static_configs: [{targets: [%q]}]
scrape_configs:
- job_name: plumbline
  honor_labels: true
  static_configs: [{targets: [%q]}]
`, hasten(t, rules), alertmanager, target))
	start(t, lookUp(t, "prometheus"),
		"--config.file="+config,
		"--storage.tsdb.path="+filepath.Join(t.TempDir(), "data"),
		"--web.listen-address="+address,
		"--rules.alert.resend-delay=1s",
		"--log.level=warn")
	p := prometheus{url: "http://" + address}
	await(t, "Prometheus is ready", func() error {
		_, err := get(t.Context(), p.url+"/-/ready")
		return err
	})
	return p
}

// hasten copies a file of rules and makes all of them quick: groups are evaluated each second, and alerts fire after
// one. Nothing else is changed.
func hasten(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string][]map[string]any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	hastened := 0
	for _, group := range doc["groups"] {
		group["interval"] = "1s"
		for _, rule := range group["rules"].([]any) {
			rule := rule.(map[string]any)
			if _, ok := rule["for"]; ok {
				rule["for"] = "1s"
				hastened++
			}
		}
	}
	if hastened == 0 {
		t.Fatalf("%s: no rule has a for: there is nothing to test", file)
	}
	data, err = yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, filepath.Base(file), string(data))
}

// api asks Prometheus' API and decodes the data of its answer.
func (p prometheus) api(ctx context.Context, path string, parameters url.Values, data any) error {
	body, err := get(ctx, p.url+"/api/v1/"+path+"?"+parameters.Encode())
	if err != nil {
		return err
	}
	var answer struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return json.Unmarshal(answer.Data, data)
}

// sample is one series of an answer.
type sample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"` // time and, as a string, value
}

func (s sample) value() string {
	v, _ := s.Value[1].(string)
	return v
}

// query evaluates an expression now.
func (p prometheus) query(ctx context.Context, expr string) ([]sample, error) {
	var data struct {
		ResultType string   `json:"resultType"`
		Result     []sample `json:"result"`
	}
	if err := p.api(ctx, "query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, err
	}
	if data.ResultType != "vector" {
		return nil, fmt.Errorf("%s is a %s, not a vector", expr, data.ResultType)
	}
	return data.Result, nil
}

// hasData says why there is nothing to be seen of an expression.
func (p prometheus) hasData(ctx context.Context, expr string) error {
	samples, err := p.query(ctx, expr)
	if err != nil {
		return err
	}
	for _, s := range samples {
		if s.value() != "NaN" {
			return nil
		}
	}
	return fmt.Errorf("%d series, and none has a value", len(samples))
}

// ruleState is what became of a rule.
type ruleState struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Health    string `json:"health"`
	LastError string `json:"lastError"`
}

// rules returns the state of all rules, and an error while one was not evaluated yet.
func (p prometheus) rules(ctx context.Context) ([]ruleState, error) {
	var data struct {
		Groups []struct {
			Rules []ruleState `json:"rules"`
		} `json:"groups"`
	}
	if err := p.api(ctx, "rules", nil, &data); err != nil {
		return nil, err
	}
	var all []ruleState
	for _, group := range data.Groups {
		all = append(all, group.Rules...)
	}
	for _, r := range all {
		if r.Health == "unknown" {
			return nil, errors.New(r.Name + " was not evaluated yet")
		}
	}
	return all, nil
}
