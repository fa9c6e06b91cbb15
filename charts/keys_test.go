package charts

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/plumbline-net/plumbline/schedules"
)

var knownKeys = regexp.MustCompile(`unknown key; known keys are (.*)`)

// nest is a document that has a value at a key.
func nest(key, value string) string {
	for _, part := range slices.Backward(strings.FieldsFunc(key, func(r rune) bool { return r == '.' })) {
		if part == "schedules" || part == "agents" { // which are lists
			value = "[" + value + "]"
		}
		value = fmt.Sprintf("{%s: %s}", part, value)
	}
	return value
}

// keys are those that the program reads, below one of them: it names them when it is
// given one that it does not know.
func keys(t *testing.T, below string) (all []string) {
	t.Helper()
	text := nest(below, "{noSuchKey: 1}")
	_, err := schedules.Parse("keys.yaml", []byte(text))
	if err == nil {
		t.Fatalf("%s is taken", text)
	}
	m := knownKeys.FindStringSubmatch(err.Error())
	if m == nil {
		return []string{below}
	}
	for _, key := range strings.Split(m[1], ", ") {
		all = append(all, keys(t, strings.TrimPrefix(below+"."+key, "."))...)
	}
	return all
}

// flat are the keys of a document that have no keys below, and their values.
func flat(below string, value any, into map[string]any) {
	switch v := value.(type) {
	case map[string]any:
		for key, value := range v {
			flat(strings.TrimPrefix(below+"."+key, "."), value, into)
		}
	case []any:
		for _, value := range v {
			flat(below, value, into)
		}
	default:
		into[below] = value
	}
}

// schemaOfValues is the chart's schema.
func schemaOfValues(t *testing.T) (schema map[string]any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chart.Dir(), "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

// schemaOfConfig says what the chart's schema allows in the configuration, by key.
func schemaOfConfig(t *testing.T) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	var walk func(at string, of map[string]any)
	walk = func(at string, of map[string]any) {
		if items, ok := of["items"].(map[string]any); ok && items["properties"] != nil {
			of = items
		}
		properties, ok := of["properties"].(map[string]any)
		if !ok {
			all[at] = of
			return
		}
		for key, below := range properties {
			walk(strings.TrimPrefix(at+"."+key, "."), below.(map[string]any))
		}
	}
	values := schemaOfValues(t)["properties"].(map[string]any)
	walk("", values["config"].(map[string]any))
	walk("schedules", values["schedules"].(map[string]any))
	return all
}

func TestTheChartKnowsTheKeysOfTheConfiguration(t *testing.T) {
	read := keys(t, "")
	if !slices.Contains(read, "controller.lease.duration") || !slices.Contains(read, "schedules.via.interface") {
		t.Fatalf("the program reads %v", read)
	}
	written := map[string]any{}
	files, err := chart.ValueFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, data := range render(t, "--values", file).configs {
			if data["plumbline.yaml"] == "" { // dashboards
				continue
			}
			var document any
			if err := yaml.Unmarshal([]byte(data["plumbline.yaml"]), &document); err != nil {
				t.Fatal(err)
			}
			flat("", document, written)
		}
	}
	schema := schemaOfConfig(t)
	elsewhere := map[string]string{
		"collector.manifests":    "objects are those of the API server",
		"kubernetes.kubeconfig":  "pods have a service account",
		"node":                   "NODE_NAME in the environment",
		"controller.agents.node": "agents are found among the pods",
		"controller.agents.url":  "agents are found among the pods",
	}
	for _, key := range read {
		_, given := schema[key]
		_, set := written[key]
		_, not := elsewhere[key]
		if !given && !set && !not {
			t.Errorf("%s: neither does the chart set it, nor may its values", key)
		}
		if not && (given || set) {
			t.Errorf("%s is in the chart, though: %s", key, elsewhere[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(schema)) {
		if !slices.Contains(read, key) {
			t.Errorf("%s may be in values, and the program does not know it", key)
		}
	}
}

// A value that the schema takes, the program takes, too.
func TestTheProgramTakesWhatTheSchemaTakes(t *testing.T) {
	for key, schema := range schemaOfConfig(t) {
		var values []any
		for _, bound := range []string{"minimum", "maximum"} {
			if v, ok := schema[bound].(float64); ok {
				values = append(values, strconv.FormatFloat(v, 'f', -1, 64))
			} else if kind := schema["type"]; kind == "integer" || kind == "number" {
				t.Errorf("%s has no %s", key, bound)
			}
		}
		if list, ok := schema["enum"].([]any); ok {
			values = append(values, list...)
		}
		if schema["type"] == "number" {
			values = append(values, 0.25)
		}
		for _, value := range values {
			document := nest(key, fmt.Sprint(value))
			if name, ok := strings.CutPrefix(key, "schedules."); ok {
				// Ports are not of icmp, and its types of nothing else.
				other := map[bool]string{true: ", protocol: icmp", false: ", port: 1"}[name == "icmpType"]
				if name == "port" || value == "icmp" {
					other = ""
				}
				document = nest("schedules", fmt.Sprintf("{name: a, cron: '@hourly', from: 'node:a', to: 'node:b'%s, %s: %v}", other, name, value))
			}
			if _, err := schedules.Parse("keys.yaml", []byte(document)); err != nil {
				t.Errorf("%s: %v", document, err)
			}
		}
	}
}

func TestTheDocumentationTellsEachKeyOfTheConfiguration(t *testing.T) {
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		section := ""
		for _, m := range regexp.MustCompile("`([A-Za-z.]+)`").FindAllStringSubmatch(cells[1], -1) {
			key := m[1]
			if at := strings.LastIndexByte(key, '.'); at >= 0 {
				section = key[:at+1]
			} else {
				key = section + key
			}
			told[key] = true
			// What is below is told in an example: {node: NAME, url: URL}.
			for _, below := range regexp.MustCompile(`[{ ]([a-zA-Z]+):`).FindAllStringSubmatch(strings.Join(cells[2:], "|"), -1) {
				told[key+"."+below[1]] = true
			}
		}
	}
	for _, key := range keys(t, "") {
		if !told[key] && !told[strings.TrimPrefix(key, "schedules.")] {
			t.Errorf("docs/configuration.md does not tell %s", key)
		}
	}
}
