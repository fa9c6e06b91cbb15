package schedules

import (
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

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

func text(s string) (string, error) {
	if s == "" {
		return "", errors.New("is empty")
	}
	return s, nil
}

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

func boolean(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("is not true or false")
}

// number parses whole numbers from low to high.
func number[T ~int | ~uint8 | ~uint16 | ~uint32](low, high int64) func(string) (T, error) {
	return func(s string) (T, error) {
		n, err := strconv.ParseInt(s, 0, 64)
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("is not a whole number from %d to %d", low, high)
		}
		return T(n), nil
	}
}

func ratio(low, high float64) func(string) (float64, error) {
	return func(s string) (float64, error) {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(f) || f < low || f > high {
			return 0, fmt.Errorf("is not a number from %v to %v", low, high)
		}
		return f, nil
	}
}

func duration(low time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		v, err := time.ParseDuration(s)
		if err != nil {
			return 0, errors.New("is not a duration such as 10s, 5m or 1h30m")
		}
		if v < low {
			return 0, fmt.Errorf("is less than %s", low)
		}
		return v, nil
	}
}

func directory(s string) (string, error) {
	info, err := os.Stat(s)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", errors.New("no such directory")
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", errors.New("is not a directory")
	}
	return s, nil
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
