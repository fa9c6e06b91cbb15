package dashboards

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

const (
	rulesFile     = "rules/plumbline.yaml"
	ruleTestsFile = "rules/plumbline_test.yaml"
	// root is where the repository's files can be read.
	root = "https://github.com/plumbline-net/plumbline/blob/main/"
	// repository is the directory with the same files.
	repository = ".."
)

func mustReadRules(t *testing.T) *Rules {
	t.Helper()
	r, err := ReadRules(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Alerts()) == 0 {
		t.Fatal("there are no alerts")
	}
	return r
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if errors.Is(err, exec.ErrNotFound) {
		t.Fatal("promtool is not installed: apt-get install prometheus")
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPromtoolAcceptsTheRules(t *testing.T) { promtool(t, "check", "rules", rulesFile) }

func TestPromtoolTestsOfTheRulesPass(t *testing.T) { promtool(t, "test", "rules", ruleTestsFile) }

func TestEveryAlertIsTestedToFireAndNotToFire(t *testing.T) {
	data, err := os.ReadFile(ruleTestsFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string      `yaml:"alertname"`
				ExpAlerts []yaml.Node `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, c := range test.AlertRuleTest {
			if len(c.ExpAlerts) > 0 {
				fires[c.Alertname] = true
			} else {
				silent[c.Alertname] = true
			}
		}
	}
	for _, alert := range mustReadRules(t).Alerts() {
		if !fires[alert.Alert] || !silent[alert.Alert] {
			t.Errorf("%s: tested to fire: %t, not to fire: %t", alert.Alert, fires[alert.Alert], silent[alert.Alert])
		}
	}
}

func TestEveryAlertSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	for _, alert := range mustReadRules(t).Alerts() {
		t.Run(alert.Alert, func(t *testing.T) {
			if !strings.HasPrefix(alert.Alert, "Plumbline") {
				t.Error("the name does not begin with Plumbline: among the alerts of a cluster nobody would know whose it is")
			}
			if s := alert.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("severity is %q, want critical or warning", s)
			}
			if alert.Annotations["summary"] == "" {
				t.Error("summary is empty")
			}
			if !strings.Contains(alert.Annotations["description"], "$value") {
				t.Error("the description does not say the value")
			}
			want := root + runbook(alert.Alert)
			if got := alert.Annotations["runbook_url"]; got != want {
				t.Errorf("runbook_url is %q, want %q", got, want)
			}
		})
	}
}

var (
	metricName = regexp.MustCompile(`\bplumbline_[a-z0-9_]+`)
	// recordName matches names of recording rules, which have parts that look like metrics.
	recordName  = regexp.MustCompile(`\w+:\w+:\w+`)
	promqlBlock = regexp.MustCompile("(?s)```promql\n(.*?)```")
)

func TestEverythingThatIsAskedForExists(t *testing.T) {
	docs, err := os.ReadFile(filepath.Join(repository, "docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	rules, records := mustReadRules(t), map[string]bool{}
	for _, rule := range rules.All() {
		records[rule.Record] = true
	}
	check := func(where, expr string) {
		for _, name := range recordName.FindAllString(expr, -1) {
			if !records[name] {
				t.Errorf("%s asks for %s, which no rule records", where, name)
			}
		}
		for _, name := range metricName.FindAllString(recordName.ReplaceAllString(expr, ""), -1) {
			// Of a histogram, the documentation names the whole.
			if !strings.Contains(string(docs), "`"+strings.TrimSuffix(name, "_bucket")+"`") {
				t.Errorf("%s asks for %s, which docs/metrics.md does not know", where, name)
			}
		}
	}
	for _, rule := range rules.All() {
		check(rule.Record+rule.Alert, rule.Expr)
	}
	for _, file := range dashboardFiles(t) {
		d, err := ReadDashboard(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				check(p.Title, target.Expr)
			}
		}
		for _, v := range d.Templating.List {
			check("variable "+v.Name, v.Definition)
		}
	}
	for _, alert := range rules.Alerts() {
		text, err := os.ReadFile(filepath.Join(repository, runbook(alert.Alert)))
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range promqlBlock.FindAllStringSubmatch(string(text), -1) {
			check(runbook(alert.Alert), block[1])
		}
	}
}

func runbook(alert string) string { return "docs/runbooks/" + alert + ".md" }

// sections are what an engineer looks for in a runbook, in this order.
var sections = []string{"## Meaning", "## Who is affected", "## First checks", "## Likely causes", "## Silence", "## Escalate"}

func TestRunbooks(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(repository, "docs/runbooks/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	var have, want []string
	for _, file := range files {
		have = append(have, strings.TrimSuffix(filepath.Base(file), ".md"))
	}
	for _, alert := range mustReadRules(t).Alerts() {
		want = append(want, alert.Alert)
	}
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Fatalf("runbooks and alerts differ\nrunbooks: %v\nalerts:   %v", have, want)
	}
	for _, name := range want {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(repository, runbook(name)))
			if err != nil {
				t.Fatal(err)
			}
			text := string(data)
			if !strings.HasPrefix(text, "# "+name+"\n") {
				t.Errorf("the title is not %q", "# "+name)
			}
			var got []string
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "## ") {
					got = append(got, strings.TrimSpace(line))
				}
			}
			if !slices.Equal(got, sections) {
				t.Errorf("sections are %q, want %q", got, sections)
			}
			checks := section(text, "## First checks")
			for i := range 3 {
				if !strings.Contains(checks, fmt.Sprintf("\n%d. ", i+1)) {
					t.Errorf("there is no check %d", i+1)
				}
			}
			if strings.Count(checks, "```") < 2 {
				t.Error("the checks have no commands")
			}
			if !strings.Contains(section(text, "## Silence"), "amtool silence add alertname="+name) {
				t.Error("the section on silence has no amtool command for this alert")
			}
			checkReferences(t, filepath.Join(repository, "docs/runbooks"), text)
		})
	}
}

func section(text, heading string) string {
	_, rest, _ := strings.Cut(text, heading)
	body, _, _ := strings.Cut(rest, "\n## ")
	return body
}

var markdownLink = regexp.MustCompile(`\]\(([^)]+)\)`)

// checkReferences follows the links of a text in directory dir to other files
// of the repository; those to docs/reasons.md must name a code.
func checkReferences(t *testing.T, dir, text string) {
	codes := map[string]bool{}
	for _, r := range verdict.Catalogue() {
		codes[strings.ToLower(string(r.Code))] = true
	}
	for _, match := range markdownLink.FindAllStringSubmatch(text, -1) {
		target, anchor, _ := strings.Cut(match[1], "#")
		if strings.Contains(target, "://") || target == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, target)); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("link %s leads nowhere", match[1])
		}
		if filepath.Base(target) == "reasons.md" && anchor != "" && !codes[anchor] {
			t.Errorf("link %s names no reason", match[1])
		}
	}
}

// checkLink demands that a link into the repository names a file of it.
func checkLink(t *testing.T, link Link) {
	path, ok := strings.CutPrefix(link.URL, root)
	if !ok {
		path, ok = strings.CutPrefix(link.URL, strings.Replace(root, "/blob/", "/tree/", 1))
	}
	if !ok {
		t.Errorf("link %q leads to %s, outside of the repository", link.Title, link.URL)
		return
	}
	if _, err := os.Stat(filepath.Join(repository, path)); err != nil {
		t.Errorf("link %q: %v", link.Title, err)
	}
}
