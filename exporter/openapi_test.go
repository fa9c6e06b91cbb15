package exporter

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"github.com/plumbline-net/plumbline/schedules"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

func openAPIDocument(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestTheOpenAPIDocumentListsTheRoutes(t *testing.T) {
	var documented []string
	for path, item := range openAPIDocument(t).Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
			if method == http.MethodGet {
				documented = append(documented, http.MethodHead+" "+path)
			}
		}
	}
	d, _ := newDaemon(t, Options{Bundle: sample})
	var routes []string
	for _, r := range d.http.Handler.(*echo.Echo).Routes() {
		routes = append(routes, r.Method+" "+strings.ReplaceAll(r.Path, ":id", "{id}"))
	}
	sort.Strings(documented)
	sort.Strings(routes)
	if diff := cmp.Diff(routes, documented); diff != "" {
		t.Errorf("openapi.json differs from the routes (-routes +documented):\n%s", diff)
	}
}

func TestTheOpenAPIDocumentListsTheFields(t *testing.T) {
	schemas := openAPIDocument(t).Components.Schemas
	for name, value := range map[string]any{
		"Report": verdict.Report{}, "Query": verdict.Query{}, "Observed": verdict.Observed{}, "Record": schedules.Record{}, "Schedule": schedules.Status{},
	} {
		describes(t, name, schemas[name], reflect.TypeOf(value))
	}
	for _, outcomes := range []struct {
		at   string
		of   *openapi3.SchemaRef
		want []verdict.Outcome
	}{
		{"Path.outcome", schemas["Path"].Value.Properties["outcome"], verdict.Outcomes()},
		{"Observed.outcome", schemas["Observed"].Value.Properties["outcome"], append(slices.DeleteFunc(slices.Clone(verdict.Outcomes()), func(o verdict.Outcome) bool {
			return o == verdict.OutcomeDelivered || o == verdict.OutcomeUnknown // what only a simulation can tell
		}), verdict.OutcomeInconclusive)},
	} {
		var got []verdict.Outcome
		for _, o := range outcomes.of.Value.Enum {
			got = append(got, verdict.Outcome(o.(string)))
		}
		slices.Sort(got)
		slices.Sort(outcomes.want)
		if diff := cmp.Diff(outcomes.want, got); diff != "" {
			t.Errorf("%s (-code +document):\n%s", outcomes.at, diff)
		}
	}
}

// describes checks that a schema has the fields that a type has as JSON. Fields of what is
// asked are required where the one who answers has no default.
func describes(t *testing.T, at string, ref *openapi3.SchemaRef, of reflect.Type) {
	t.Helper()
	if ref == nil {
		t.Errorf("%s: not in the document", at)
		return
	}
	schema := ref.Value
	if len(schema.AllOf) == 1 {
		schema = schema.AllOf[0].Value
	}
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	kind := map[reflect.Kind]string{
		reflect.Struct: "object", reflect.Map: "object", reflect.Slice: "array", reflect.String: "string", reflect.Bool: "boolean",
		reflect.Float64: "number", reflect.Int: "integer", reflect.Uint8: "integer", reflect.Uint16: "integer", reflect.Uint32: "integer", reflect.Uint64: "integer",
	}[of.Kind()]
	if of == reflect.TypeFor[time.Time]() {
		kind = "string"
	}
	if !schema.Type.Is(kind) {
		t.Errorf("%s: is %v, and %s in the code", at, schema.Type, kind)
		return
	}
	switch {
	case of.Kind() == reflect.Slice:
		describes(t, at+"[]", schema.Items, of.Elem())
	case of.Kind() == reflect.Map:
		describes(t, at+"{}", schema.AdditionalProperties.Schema, of.Elem())
	case kind == "object":
		var fields, always []string
		for i := range of.NumField() {
			name, options, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			if !of.Field(i).IsExported() || name == "-" {
				continue
			}
			fields = append(fields, name)
			if options != "omitempty" && schema.Properties[name] != nil && schema.Properties[name].Value.Default == nil {
				always = append(always, name)
			}
			describes(t, at+"."+name, schema.Properties[name], of.Field(i).Type)
		}
		documented, required := make([]string, 0, len(schema.Properties)), slices.Clone(schema.Required)
		for name := range schema.Properties {
			documented = append(documented, name)
		}
		for _, list := range [][]string{fields, always, documented, required} {
			slices.Sort(list)
		}
		if diff := cmp.Diff(fields, documented); diff != "" {
			t.Errorf("%s: fields (-code +document):\n%s", at, diff)
		}
		if diff := cmp.Diff(always, required); diff != "" {
			t.Errorf("%s: fields that are always there (-code +document):\n%s", at, diff)
		}
	}
}

func TestAnswersAreAsTheOpenAPIDocumentSays(t *testing.T) {
	doc := openAPIDocument(t)
	d, _ := newDaemon(t, Options{Bundle: sample, ConfigFile: configFile(t, "web: {confirmsPerSecond: 1}\n"+oneSchedule)})
	report := ran(t, d)[0].Paths[0].Report
	server := httptest.NewServer(d.http.Handler)
	defer server.Close()
	answered := func(path, method, target, body string, status int) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		data, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != status {
			t.Errorf("%s %s: %d %s, %v; want %d", method, target, response.StatusCode, data, err, status)
			return
		}
		if method == http.MethodHead {
			method = http.MethodGet
			if len(data) > 0 {
				t.Errorf("HEAD %s: a body", target)
			}
			data = nil
		}
		said := doc.Paths.Find(path).GetOperation(method).Responses.Status(status)
		if said == nil {
			t.Errorf("%s %s: %d is not documented", method, path, status)
			return
		}
		kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
		media := said.Value.Content.Get(kind)
		if media == nil {
			t.Errorf("%s %s: %d as %q is not documented", method, path, status, kind)
			return
		}
		if kind != "application/json" || data == nil {
			return
		}
		var value any
		if err := json.Unmarshal(data, &value); err != nil {
			t.Fatal(err)
		}
		if err := media.Schema.Value.VisitJSON(value, openapi3.MultiErrors(), openapi3.EnableFormatValidation()); err != nil {
			t.Errorf("%s %s: %s: %v", method, target, data, err)
		}
	}
	const diagnose = "/api/v1/diagnose"
	for _, query := range []string{
		"from=pod:shop/web-0&to=svc:shop/api&port=80", "from=pod:shop/web-0&to=svc:shop/db&port=5432", "from=pod:shop/web-0&to=10.244.2.10&protocol=icmp",
		"from=pod:shop/web-0&to=8.8.8.8&port=53&protocol=udp", "from=pod:shop/web-0&to=dns:api.shop&port=80", "from=pod:shop/nobody&to=10.0.0.1&port=80",
	} {
		answered(diagnose, "GET", diagnose+"?"+query, "", 200)
	}
	answered(diagnose, "GET", diagnose+"?from=x", "", 400)
	// Who says no protocol asks about TCP, here as anywhere.
	answered(diagnose, "POST", diagnose, `{"id":"7","from":"pod:shop/web-0","to":"pod:shop/api-1","port":8080,"uid":1000,"via":null}`, 200)
	answered(diagnose, "POST", diagnose, `{"from":"pod:shop/web-0","to":"pod:shop/api-1","port":8080,"confirm":true}`, 200)
	answered(diagnose, "POST", diagnose, `{}`, 400)
	answered(diagnose, "POST", diagnose, strings.Repeat(" ", 65<<10), 413)
	answered("/-/reload", "POST", "/-/reload", "", 200)
	answered("/api/v1/reports/{id}", "GET", "/api/v1/reports/x", "", 404)
	answered("/api/v1/reports", "GET", "/api/v1/reports?limit=x", "", 400)
	for path, target := range map[string]string{
		diagnose: diagnose + "?from=pod:shop/web-0&to=svc:shop/api&port=80", "/api/v1/reports": "/api/v1/reports", "/api/v1/reports/{id}": "/api/v1/reports/" + report,
		"/api/v1/schedules": "/api/v1/schedules", "/api/v1/bundle": "/api/v1/bundle", "/metrics": "/metrics", "/-/healthy": "/-/healthy", "/-/ready": "/-/ready",
		"/openapi.json": "/openapi.json", "/": "/",
	} {
		answered(path, "GET", target, "", 200)
		answered(path, "HEAD", target, "", 200)
	}
}
