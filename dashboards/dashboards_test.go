package dashboards

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// builtinVariables are those that Grafana defines itself.
var builtinVariables = map[string]bool{"__rate_interval": true, "__interval": true, "__range": true}

// variableUse does not match $1, which is label_replace's.
var variableUse = regexp.MustCompile(`\$\{?([A-Za-z_]\w*)`)

func dashboardFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards found: %v", err)
	}
	return files
}

func TestDashboards(t *testing.T) {
	uids := map[string]string{}
	for _, file := range dashboardFiles(t) {
		t.Run(file, func(t *testing.T) {
			d, err := ReadDashboard(file)
			if err != nil {
				t.Fatal(err)
			}
			if other, ok := uids[d.UID]; ok || d.UID == "" {
				t.Errorf("uid %q is empty or that of %q", d.UID, other)
			}
			uids[d.UID] = file
			if d.SchemaVersion < 36 {
				t.Errorf("schemaVersion is %d: data sources are objects since 36", d.SchemaVersion)
			}
			if d.Title == "" || d.Description == "" {
				t.Error("title or description is empty")
			}
			for _, link := range d.Links {
				checkLink(t, link)
			}
			checkPanels(t, d)
			checkVariables(t, d)
		})
	}
}

func checkPanels(t *testing.T, d *Dashboard) {
	titles, ids := map[string]bool{}, map[int]string{}
	for i, p := range d.Panels {
		if other, ok := ids[p.ID]; ok || p.ID <= 0 {
			t.Errorf("panel %q has the id %d, as %q has", p.Title, p.ID, other)
		}
		ids[p.ID] = p.Title
		if p.Title == "" || titles[p.Title] {
			t.Errorf("title %q is empty or used twice", p.Title)
		}
		titles[p.Title] = true
		if g := p.GridPos; g.W <= 0 || g.H <= 0 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
			t.Errorf("panel %q at %+v is not on the grid", p.Title, g)
		}
		for _, other := range d.Panels[:i] {
			if p.GridPos.Overlaps(other.GridPos) {
				t.Errorf("panel %q at %+v overlaps %q at %+v", p.Title, p.GridPos, other.Title, other.GridPos)
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" {
			t.Errorf("panel %q has no description", p.Title)
		}
		checkUnit(t, p)
		for _, link := range p.Links {
			checkLink(t, link)
		}
		if p.Datasource != (Datasource{"prometheus", "${datasource}"}) {
			t.Errorf("panel %q has the data source %+v, which nobody can choose", p.Title, p.Datasource)
		}
		if len(p.Targets) == 0 {
			t.Errorf("panel %q asks nothing", p.Title)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if target.RefID == "" || refs[target.RefID] {
				t.Errorf("panel %q: refId %q is empty or used twice", p.Title, target.RefID)
			}
			refs[target.RefID] = true
			if target.Expr == "" {
				t.Errorf("panel %q: query %s has no expr", p.Title, target.RefID)
			}
			if target.Datasource != p.Datasource {
				t.Errorf("panel %q: query %s asks the data source %+v", p.Title, target.RefID, target.Datasource)
			}
		}
	}
}

// checkUnit demands that seconds and rates are not shown as bare numbers.
func checkUnit(t *testing.T, p Panel) {
	unit := p.FieldConfig.Defaults.Unit
	if p.Type == "heatmap" {
		unit = p.Options.YAxis.Unit
	}
	for _, override := range p.FieldConfig.Overrides {
		for _, property := range override.Properties {
			if property.ID == "unit" && unit == "" {
				unit = string(property.Value)
			}
		}
	}
	// The values of a state timeline are names.
	if unit == "" && p.Type != "state-timeline" {
		t.Errorf("panel %q has no unit", p.Title)
	}
}

func checkVariables(t *testing.T, d *Dashboard) {
	defined, used := map[string]bool{}, map[string]bool{"datasource": true}
	for _, v := range d.Templating.List {
		if defined[v.Name] {
			t.Errorf("variable %s is defined twice", v.Name)
		}
		defined[v.Name] = true
		if v.Label == "" {
			t.Errorf("variable %s has no label", v.Name)
		}
		if v.Type == "query" && (!strings.Contains(v.Definition, "plumbline_") || v.Datasource.UID != "${datasource}") {
			t.Errorf("variable %s asks %q of %+v", v.Name, v.Definition, v.Datasource)
		}
		// The node's own series have an empty namespace, which ".+", what Grafana makes of All, leaves out.
		if v.Type == "query" && v.AllValue != ".*" {
			t.Errorf("variable %s has %q for all values, want .*", v.Name, v.AllValue)
		}
	}
	for _, name := range []string{"datasource", "schedule", "namespace"} {
		if !defined[name] {
			t.Errorf("variable %s is missing", name)
		}
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			for _, match := range variableUse.FindAllStringSubmatch(target.Expr, -1) {
				if !defined[match[1]] && !builtinVariables[match[1]] {
					t.Errorf("panel %q uses $%s, which is not defined", p.Title, match[1])
				}
				used[match[1]] = true
			}
		}
	}
	for name := range defined {
		if !used[name] {
			t.Errorf("variable %s is not used", name)
		}
	}
}
