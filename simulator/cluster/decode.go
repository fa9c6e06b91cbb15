package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
)

// SyntaxError locates malformed input.
type SyntaxError struct {
	File string
	Line int // from 1
	// Token is the offending text or field; empty if the message says it.
	Token string
	Msg   string
}

func (e *SyntaxError) Error() string {
	if e.Token == "" {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
	}
	return fmt.Sprintf("%s:%d: %s at %q", e.File, e.Line, e.Msg, e.Token)
}

// maxDepth bounds the nesting of a document; Kubernetes objects have about 15
// levels.
const maxDepth = 100

// Decode reads Kubernetes objects as kubectl prints them, YAML or JSON, one or
// many, single or in lists, and appends them to into. file is for messages.
//
// Objects of other kinds are skipped, and so are fields that this version of
// the API types does not know: clusters are newer than their tools. All else
// that cannot be read is a *SyntaxError, and then into is unchanged.
func Decode(file string, data []byte, into *Objects) error {
	d := decoder{file: file}
	documents, err := d.documents(data)
	if err != nil {
		return err
	}
	for _, document := range documents {
		if err := d.object(document, typeMeta{}); err != nil {
			return err
		}
	}
	into.Namespaces = append(into.Namespaces, d.objects.Namespaces...)
	into.Nodes = append(into.Nodes, d.objects.Nodes...)
	into.Pods = append(into.Pods, d.objects.Pods...)
	into.Services = append(into.Services, d.objects.Services...)
	into.EndpointSlices = append(into.EndpointSlices, d.objects.EndpointSlices...)
	into.NetworkPolicies = append(into.NetworkPolicies, d.objects.NetworkPolicies...)
	into.OtherPolicies = append(into.OtherPolicies, d.objects.OtherPolicies...)
	into.AdminPolicies = append(into.AdminPolicies, d.objects.AdminPolicies...)
	return nil
}

type decoder struct {
	file    string
	objects Objects
}

type typeMeta struct{ apiVersion, kind string }

func (d *decoder) errorf(line int, token, format string, args ...any) error {
	return &SyntaxError{File: d.file, Line: max(line, 1), Token: token, Msg: fmt.Sprintf(format, args...)}
}

// documents parses either syntax into trees that know their lines.
func (d *decoder) documents(data []byte) ([]*yaml.Node, error) {
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) > 0 && trimmed[0] == '{' {
		return d.jsonDocuments(data)
	}
	var documents []*yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := dec.Decode(&document)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, d.yamlError(err)
		}
		if len(document.Content) == 1 && document.Content[0].ShortTag() != "!!null" {
			documents = append(documents, document.Content[0])
		}
	}
}

// yamlError takes the line out of the library's "yaml: line 12: message".
func (d *decoder) yamlError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, found := strings.CutPrefix(text, "line "); found {
		if number, message, found := strings.Cut(rest, ": "); found {
			if line, err := strconv.Atoi(number); err == nil {
				return d.errorf(line, "", "%s", message)
			}
		}
	}
	return d.errorf(1, "", "%s", text)
}

// jsonDocuments reads JSON by its own rules: YAML parsers refuse some of it.
func (d *decoder) jsonDocuments(data []byte) ([]*yaml.Node, error) {
	p := jsonParser{decoder: d, data: data, dec: json.NewDecoder(bytes.NewReader(data)), line: 1}
	p.dec.UseNumber()
	var documents []*yaml.Node
	for {
		n, err := p.value(0)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, err
		}
		documents = append(documents, n)
	}
}

type jsonParser struct {
	*decoder
	data   []byte
	dec    *json.Decoder
	line   int // of offset
	offset int
}

// token reads one token and counts the lines up to its end. io.EOF comes bare.
func (p *jsonParser) token() (json.Token, error) {
	t, err := p.dec.Token()
	end := int(p.dec.InputOffset())
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		end = int(syntax.Offset)
	}
	end = min(max(end, p.offset), len(p.data))
	p.line += bytes.Count(p.data[p.offset:end], []byte{'\n'})
	p.offset = end
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, p.errorf(p.line, "", "%s", err)
	}
	return t, err
}

func (p *jsonParser) value(depth int) (*yaml.Node, error) {
	t, err := p.token()
	if errors.Is(err, io.EOF) && depth > 0 {
		return nil, p.errorf(p.line, "", "unexpected end of JSON input")
	}
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, p.errorf(p.line, "", "nested deeper than %d levels", maxDepth)
	}
	scalar := func(tag, value string) (*yaml.Node, error) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value, Line: p.line}, nil
	}
	switch t := t.(type) {
	case nil:
		return scalar("!!null", "null")
	case bool:
		return scalar("!!bool", strconv.FormatBool(t))
	case json.Number:
		if _, err := t.Int64(); err == nil {
			return scalar("!!int", t.String())
		}
		return scalar("!!float", t.String())
	case string:
		return scalar("!!str", t)
	}
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: p.line}
	if t == json.Delim('{') {
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
	}
	for p.dec.More() {
		child, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, child)
	}
	// The closing bracket, or the fault that made More say no.
	if _, err := p.token(); errors.Is(err, io.EOF) {
		return nil, p.errorf(p.line, "", "unexpected end of JSON input")
	} else if err != nil {
		return nil, err
	}
	return n, nil
}

// object reads one object or list. The items of a typed list such as PodList
// need not repeat their kind: it comes from inherited.
func (d *decoder) object(n *yaml.Node, inherited typeMeta) error {
	if n.Kind != yaml.MappingNode {
		return d.errorf(n.Line, n.Value, "a Kubernetes object is expected")
	}
	meta := inherited
	var items *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch key.Value {
		case "apiVersion", "kind":
			if value.Kind != yaml.ScalarNode || value.ShortTag() != "!!str" || value.Value == "" {
				return d.errorf(value.Line, value.Value, "%s is not a string", key.Value)
			}
			if key.Value == "kind" {
				meta.kind = value.Value
			} else {
				meta.apiVersion = value.Value
			}
		case "items":
			items = value
		}
	}
	switch {
	case meta.kind == "":
		return d.errorf(n.Line, "", "the object has no kind")
	case meta.apiVersion == "":
		return d.errorf(n.Line, "", "the object of kind %s has no apiVersion", meta.kind)
	}
	if element, isList := strings.CutSuffix(meta.kind, "List"); isList {
		return d.list(items, typeMeta{meta.apiVersion, element})
	}
	text, fields, err := d.json(n)
	if err != nil {
		return err
	}
	return d.typed(meta, n, text, fields)
}

func (d *decoder) list(items *yaml.Node, element typeMeta) error {
	switch {
	case items == nil || items.ShortTag() == "!!null":
		return nil
	case items.Kind != yaml.SequenceNode:
		return d.errorf(items.Line, "items", "the items of a list are not a list")
	case element.kind == "":
		element = typeMeta{} // kind List: every item says what it is
	}
	for _, item := range items.Content {
		if strings.HasSuffix(itemKind(item), "List") {
			return d.errorf(item.Line, itemKind(item), "a list within a list")
		}
		if err := d.object(item, element); err != nil {
			return err
		}
	}
	return nil
}

func itemKind(n *yaml.Node) string {
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if n.Content[i].Value == "kind" {
			return n.Content[i+1].Value
		}
	}
	return ""
}

// typed decodes an object of a kind that is of interest. Of these groups,
// another version is an error and not something to skip: the objects in it do
// matter.
func (d *decoder) typed(meta typeMeta, n *yaml.Node, text []byte, fields []field) error {
	var err error
	switch meta {
	case typeMeta{"v1", "Namespace"}:
		err = decodeInto(text, &d.objects.Namespaces)
	case typeMeta{"v1", "Node"}:
		err = decodeInto(text, &d.objects.Nodes)
	case typeMeta{"v1", "Pod"}:
		err = decodeInto(text, &d.objects.Pods)
	case typeMeta{"v1", "Service"}:
		err = decodeInto(text, &d.objects.Services)
	case typeMeta{"discovery.k8s.io/v1", "EndpointSlice"}:
		err = decodeInto(text, &d.objects.EndpointSlices)
	case typeMeta{"networking.k8s.io/v1", "NetworkPolicy"}:
		err = decodeInto(text, &d.objects.NetworkPolicies)
	case typeMeta{"discovery.k8s.io/v1beta1", "EndpointSlice"},
		typeMeta{"networking.k8s.io/v1beta1", "NetworkPolicy"},
		typeMeta{"extensions/v1beta1", "NetworkPolicy"}:
		return d.errorf(n.Line, meta.apiVersion, "this version of %s is not served any more and not read", meta.kind)
	default:
		if IsOtherPolicy(meta.apiVersion, meta.kind) {
			var p OtherPolicy
			if p, err = decodeOtherPolicy(text, meta); err == nil {
				d.objects.AddOtherPolicies([]OtherPolicy{p})
			}
		}
	}
	if err == nil {
		return nil
	}
	where := locate(fields, err)
	if where.line == 0 {
		return d.errorf(n.Line, "", "%s: %s", meta.kind, err)
	}
	return d.errorf(where.line, where.path, "%s: %s", meta.kind, explain(err))
}

func decodeOtherPolicy(text []byte, meta typeMeta) (OtherPolicy, error) {
	var object metav1.PartialObjectMetadata
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &object); err != nil {
		return OtherPolicy{}, err
	}
	if object.Name == "" {
		return OtherPolicy{}, errNoName
	}
	return OtherPolicy{ObjectRef{meta.apiVersion, meta.kind, object.Namespace, object.Name}, adminPolicyOf(text, meta)}, nil
}

func decodeInto[T any](text []byte, list *[]T) error {
	var v T
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &v); err != nil {
		return err
	}
	if err := named(any(&v)); err != nil {
		return err
	}
	*list = append(*list, v)
	return nil
}

var errNoName = errors.New("it has no metadata.name")

// named refuses objects without a name, and gives the namespace that kubectl
// would give to those that have none.
func named(object any) error {
	switch o := object.(type) {
	case *corev1.Namespace:
		return mustName(o.Name, nil)
	case *corev1.Node:
		return mustName(o.Name, nil)
	case *corev1.Pod:
		return mustName(o.Name, &o.Namespace)
	case *corev1.Service:
		return mustName(o.Name, &o.Namespace)
	case *discoveryv1.EndpointSlice:
		return mustName(o.Name, &o.Namespace)
	case *networkingv1.NetworkPolicy:
		return mustName(o.Name, &o.Namespace)
	}
	return nil
}

func mustName(name string, namespace *string) error {
	if name == "" {
		return errNoName
	}
	if namespace != nil && *namespace == "" {
		*namespace = "default"
	}
	return nil
}

// field is where in the input the text between two offsets came from.
type field struct {
	path   string // "spec.containers.ports": as json errors name it, without indexes
	line   int
	offset int // of the value in the JSON text
	value  string
}

// json writes a tree as JSON, which the API types decode themselves from, and
// notes where every value came from.
func (d *decoder) json(n *yaml.Node) ([]byte, []field, error) {
	w := jsonWriter{decoder: d}
	if err := w.value(n, "", 0); err != nil {
		return nil, nil, err
	}
	return w.out.Bytes(), w.fields, nil
}

type jsonWriter struct {
	*decoder
	out    bytes.Buffer
	fields []field
}

func (w *jsonWriter) value(n *yaml.Node, path string, depth int) error {
	if depth > maxDepth {
		return w.errorf(n.Line, path, "nested deeper than %d levels", maxDepth)
	}
	w.fields = append(w.fields, field{path, n.Line, w.out.Len(), n.Value})
	switch n.Kind {
	case yaml.MappingNode:
		return w.mapping(n, path, depth)
	case yaml.SequenceNode:
		w.out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				w.out.WriteByte(',')
			}
			if err := w.value(item, path, depth+1); err != nil {
				return err
			}
		}
		w.out.WriteByte(']')
		return nil
	case yaml.ScalarNode:
		return w.scalar(n, path)
	}
	// kubectl prints no aliases, and a few lines of them can grow to gigabytes.
	return w.errorf(n.Line, n.Value, "aliases are not read")
}

func (w *jsonWriter) mapping(n *yaml.Node, path string, depth int) error {
	w.out.WriteByte('{')
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" || key.ShortTag() == "!!null":
			return w.errorf(key.Line, key.Value, "not a key that an object may have")
		case seen[key.Value]:
			return w.errorf(key.Line, key.Value, "the key is there twice")
		}
		seen[key.Value] = true
		if i > 0 {
			w.out.WriteByte(',')
		}
		w.string(key.Value)
		w.out.WriteByte(':')
		below := key.Value
		if path != "" {
			below = path + "." + key.Value
		}
		if err := w.value(value, below, depth+1); err != nil {
			return err
		}
	}
	w.out.WriteByte('}')
	return nil
}

func (w *jsonWriter) scalar(n *yaml.Node, path string) error {
	switch tag := n.ShortTag(); tag {
	case "!!null":
		w.out.WriteString("null")
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return w.errorf(n.Line, n.Value, "not a boolean")
		}
		w.out.WriteString(strconv.FormatBool(b))
	case "!!int":
		var i int64
		if err := n.Decode(&i); err != nil {
			return w.errorf(n.Line, n.Value, "not an integer of 64 bits")
		}
		w.out.WriteString(strconv.FormatInt(i, 10))
	case "!!float":
		var f float64
		if err := n.Decode(&f); err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return w.errorf(n.Line, n.Value, "not a number")
		}
		w.out.WriteString(strconv.FormatFloat(f, 'g', -1, 64))
	case "!!str", "!!timestamp":
		w.string(n.Value)
	default:
		return w.errorf(n.Line, path, "values of type %s are not read", tag)
	}
	return nil
}

func (w *jsonWriter) string(s string) {
	text, _ := json.Marshal(s) // strings cannot fail
	w.out.Write(text)
}

// locate finds the value that a decoding error is about. The error's path
// has no list indexes; its offset, just behind the value's first token, tells
// the items apart. Types that decode themselves count offsets from their own start:
// then the first value of that path is named. Other errors, those of times, have
// nothing but the value that they quote.
func locate(fields []field, err error) field {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		for _, f := range fields {
			if f.value != "" && strings.Contains(err.Error(), strconv.Quote(f.value)) {
				return f
			}
		}
		return field{}
	}
	var found field
	for _, f := range fields {
		if f.path != wrong.Field {
			continue
		}
		if found.line == 0 || int64(f.offset) < wrong.Offset {
			found = f
		}
	}
	return found
}

// explain says what is wrong without the names of Go's types.
func explain(err error) string {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err.Error()
	}
	return fmt.Sprintf("%s where %s is expected", plainValue(wrong.Value), plainType(wrong.Type))
}

func plainType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "a boolean"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "an integer" // the API types have no floating point numbers
}

func plainValue(value string) string {
	switch value {
	case "array":
		return "a list"
	case "object":
		return "an object"
	case "bool":
		return "a boolean"
	case "string", "number":
		return "a " + value
	}
	return "the " + value // "number 1.5"
}
