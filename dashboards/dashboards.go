// Package dashboards holds Grafana dashboards (*.json), and alert and recording
// rules with their tests (rules/*.yaml). They are files to be loaded by Grafana
// and Prometheus; the Go code reads as much of them as tests need, so that one
// reader serves those of this package and those against a real Prometheus.
//
// Errors name the file.
package dashboards

import (
	"encoding/json"
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"
)

// Dashboard is a Grafana dashboard.
type Dashboard struct {
	UID           string `json:"uid"`
	Title         string `json:"title"`
	Description   string `json:"description"`
	SchemaVersion int    `json:"schemaVersion"`
	Links         []Link `json:"links"`
	Templating    struct {
		List []Variable `json:"list"`
	} `json:"templating"`
	Panels []Panel `json:"panels"`
}

// Variable is what a reader of the dashboard chooses at its top.
type Variable struct {
	Name  string `json:"name"`
	Label string `json:"label"`
	Type  string `json:"type"`
	// Definition is the query of a variable of type "query".
	Definition string     `json:"definition"`
	Datasource Datasource `json:"datasource"`
	AllValue   string     `json:"allValue"`
}

// Panel is a graph or table, or with the type "row" a heading.
type Panel struct {
	ID          int        `json:"id"`
	Type        string     `json:"type"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Datasource  Datasource `json:"datasource"`
	GridPos     GridPos    `json:"gridPos"`
	Targets     []Target   `json:"targets"`
	Links       []Link     `json:"links"`
	FieldConfig struct {
		Defaults  FieldOptions `json:"defaults"`
		Overrides []struct {
			Properties []struct {
				ID    string          `json:"id"`
				Value json.RawMessage `json:"value"`
			} `json:"properties"`
		} `json:"overrides"`
	} `json:"fieldConfig"`
	Options struct {
		YAxis FieldOptions `json:"yAxis"` // of a heatmap
	} `json:"options"`
}

// FieldOptions say how values are shown.
type FieldOptions struct {
	Unit string `json:"unit"`
}

// GridPos is a place on the 24 columns of a dashboard.
type GridPos struct {
	X int `json:"x"`
	Y int `json:"y"`
	W int `json:"w"`
	H int `json:"h"`
}

// Overlaps says whether two places have a cell in common.
func (g GridPos) Overlaps(o GridPos) bool {
	return g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H
}

// Target is a query of a panel.
type Target struct {
	RefID      string     `json:"refId"`
	Expr       string     `json:"expr"`
	Datasource Datasource `json:"datasource"`
}

// Datasource names where a panel's data comes from.
type Datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// Link leads out of the dashboard.
type Link struct {
	Title string `json:"title"`
	URL   string `json:"url"`
}

// ReadDashboard reads a dashboard.
func ReadDashboard(file string) (*Dashboard, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	d := &Dashboard{}
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("dashboard %s: %w", file, err)
	}
	return d, nil
}

// Rules is a file of rules for Prometheus.
type Rules struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []Rule `yaml:"rules"`
	} `yaml:"groups"`
}

// Rule is a recording rule or an alert; the other one's name is empty.
type Rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// All returns the rules of all groups.
func (r *Rules) All() []Rule {
	var all []Rule
	for _, g := range r.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// Alerts returns the rules that are alerts.
func (r *Rules) Alerts() []Rule {
	var alerts []Rule
	for _, rule := range r.All() {
		if rule.Alert != "" {
			alerts = append(alerts, rule)
		}
	}
	return alerts
}

// ReadRules reads a file of rules.
func ReadRules(file string) (*Rules, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	r := &Rules{}
	if err := yaml.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("rules %s: %w", file, err)
	}
	return r, nil
}
