package schedules

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder turns YAML nodes into values. It exists beside yaml's own decoding
// because that can name neither the key nor, for what is wrong with a value,
// the line.
type decoder struct {
	file string
}

// fields maps each known key of a mapping to what reads its value.
type fields map[string]func(node *yaml.Node, path string) error

func (d decoder) errorf(node *yaml.Node, path, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if path != "" {
		return fmt.Errorf("%s:%d: %s: %w", d.file, node.Line, path, err)
	}
	return fmt.Errorf("%s:%d: %w", d.file, node.Line, err)
}

// syntaxLine finds the line in yaml's own errors, which are plain text.
var syntaxLine = regexp.MustCompile(`^yaml: (?:unmarshal errors:\n\s*)?line (\d+): (.*)$`)

func (d decoder) syntaxError(err error) error {
	if m := syntaxLine.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s:%s: %s", d.file, m[1], m[2])
	}
	return fmt.Errorf("%s: %s", d.file, strings.TrimPrefix(err.Error(), "yaml: "))
}

// mapping reads a mapping whose keys are all known. A null is an empty mapping.
func (d decoder) mapping(node *yaml.Node, path string, known fields) error {
	node = resolve(node)
	if isNull(node) {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		return d.errorf(node, path, "%s is not a mapping of keys to values", describe(node))
	}
	lines := make(map[string]int)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := join(path, key.Value)
		read, ok := known[key.Value]
		if !ok {
			return d.errorf(key, at, "unknown key; known keys are %s", strings.Join(known.names(), ", "))
		}
		if first, again := lines[key.Value]; again {
			return d.errorf(key, at, "given twice, first in line %d", first)
		}
		lines[key.Value] = key.Line
		if err := read(value, at); err != nil {
			return err
		}
	}
	return nil
}

func (f fields) names() []string {
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// list reads a sequence. A null is an empty one.
func (d decoder) list(node *yaml.Node, path string, read func(node *yaml.Node, path string) error) error {
	node = resolve(node)
	if isNull(node) {
		return nil
	}
	if node.Kind != yaml.SequenceNode {
		return d.errorf(node, path, "%s is not a list", describe(node))
	}
	for i, item := range node.Content {
		if err := read(item, fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	return nil
}

// scalar makes a field reader out of what parses one value's text.
func scalar[T any](d decoder, to *T, parse func(text string) (T, error)) func(*yaml.Node, string) error {
	return func(node *yaml.Node, path string) error {
		value := resolve(node)
		if value.Kind != yaml.ScalarNode || isNull(value) {
			return d.errorf(node, path, "%s is not a single value", describe(value))
		}
		parsed, err := parse(value.Value)
		if err != nil {
			return d.errorf(node, path, "%q: %w", value.Value, err)
		}
		*to = parsed
		return nil
	}
}

// texts reads a list of texts that are not empty.
func texts(d decoder, to *[]string, check func(string) error) func(*yaml.Node, string) error {
	return func(node *yaml.Node, path string) error {
		return d.list(node, path, func(item *yaml.Node, at string) error {
			var s string
			err := scalar(d, &s, func(given string) (string, error) {
				if given == "" {
					return "", errors.New("is empty")
				}
				return given, check(given)
			})(item, at)
			*to = append(*to, s)
			return err
		})
	}
}

func resolve(node *yaml.Node) *yaml.Node {
	// An alias of an alias cannot be written, so that one step is enough.
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.Tag == "!!null"
}

func describe(node *yaml.Node) string {
	switch {
	case isNull(node):
		return "no value"
	case node.Kind == yaml.MappingNode:
		return "a mapping"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	}
	return strconv.Quote(node.Value)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
