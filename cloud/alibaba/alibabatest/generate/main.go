// Command generate writes openapi.txt, what the API publishes of each action that
// Plumbline calls: version, parameters and where they go, and all fields of the
// response. It reads the typed packages of alibaba-cloud-sdk-go, which Alibaba Cloud
// generates from the API's own description.
package main

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/cloud/alibaba"
)

func main() {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aliyun/alibaba-cloud-sdk-go").Output()
	if err != nil {
		log.Fatal(err)
	}
	out, err := os.Create("openapi.txt")
	if err != nil {
		log.Fatal(err)
	}
	w := bufio.NewWriter(out)
	services := map[string]*service{}
	for _, name := range alibaba.Actions() {
		product, action, _ := strings.Cut(name, ".")
		s := services[product]
		if s == nil {
			s = load(filepath.Join(strings.TrimSpace(string(dir)), "services", product))
			services[product] = s
		}
		fmt.Fprintf(w, "%s %s\n", name, s.versions[action])
		s.parameters(w, action)
		var fields []string
		s.fields(&fields, "", action+"Response", nil)
		sort.Strings(fields)
		for _, f := range fields {
			fmt.Fprintf(w, "\tresponse %s\n", f)
		}
	}
	if err := w.Flush(); err != nil {
		log.Fatal(err)
	}
	if err := out.Close(); err != nil {
		log.Fatal(err)
	}
}

// service is a typed package.
type service struct {
	types    map[string]*ast.StructType
	versions map[string]string // by action
}

func load(dir string) *service {
	s := &service{map[string]*ast.StructType{}, map[string]string{}}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			log.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSpec:
				if t, ok := n.Type.(*ast.StructType); ok {
					s.types[n.Name.Name] = t
				}
			case *ast.CallExpr:
				f, ok := n.Fun.(*ast.SelectorExpr)
				if ok && f.Sel.Name == "InitWithApiInfo" && len(n.Args) > 2 {
					s.versions[literal(n.Args[2])] = literal(n.Args[1])
				}
			}
			return true
		})
	}
	return s
}

func literal(e ast.Expr) string {
	if b, ok := e.(*ast.BasicLit); ok {
		if s, err := strconv.Unquote(b.Value); err == nil {
			return s
		}
	}
	return ""
}

// parameters writes those of a request.
func (s *service) parameters(w *bufio.Writer, action string) {
	var lines []string
	for _, f := range s.types[action+"Request"].Fields.List {
		if f.Tag == nil {
			continue
		}
		text, _ := strconv.Unquote(f.Tag.Value)
		tag := reflect.StructTag(text)
		if tag.Get("name") == "" {
			continue
		}
		repeated := ""
		if tag.Get("type") == "Repeated" {
			repeated = "[]"
		}
		lines = append(lines, strings.ToLower(tag.Get("position"))+" "+tag.Get("name")+repeated)
	}
	sort.Strings(lines)
	for _, l := range lines {
		fmt.Fprintf(w, "\t%s\n", l)
	}
}

// fields lists those of a type, and of what is in it.
func (s *service) fields(out *[]string, prefix, name string, within []string) {
	t := s.types[name]
	for _, f := range t.Fields.List {
		if f.Tag == nil {
			continue
		}
		text, _ := strconv.Unquote(f.Tag.Value)
		key := reflect.StructTag(text).Get("json")
		typ, list := f.Type, ""
		if a, ok := typ.(*ast.ArrayType); ok {
			typ, list = a.Elt, "[]"
		}
		id, ok := typ.(*ast.Ident)
		if key == "" || !ok {
			continue
		}
		if s.types[id.Name] == nil {
			*out = append(*out, prefix+key+list+" "+id.Name)
			continue
		}
		recursive := false
		for _, w := range within {
			recursive = recursive || w == id.Name
		}
		if !recursive {
			s.fields(out, prefix+key+list+".", id.Name, append(within, id.Name))
		}
	}
}
