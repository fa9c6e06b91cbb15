//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// variable is the one of the environment that says which fault is on: its number in the list, from 1.
const variable = "PLUMBLINE_FAULT"

// module finds the source.
func module(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// overlay writes the faulty files to dir, and the list of them for the compiler. One binary has all faults, of which one
// is on: a function with a fault is there twice, and the sound one begins with a call of the other.
func overlay(root, dir string, faults []fault) (string, error) {
	replace := map[string]string{}
	write := func(path, text string) error {
		file := filepath.Join(dir, fmt.Sprintf("overlay%d.go", len(replace)))
		replace[filepath.Join(root, path)] = file
		return os.WriteFile(file, []byte(text), 0o644)
	}
	byFile := map[string][]int{}
	for i := range faults {
		byFile[faults[i].file] = append(byFile[faults[i].file], i)
	}
	for path, list := range byFile {
		source, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return "", err
		}
		text, pkg, err := twice(string(source), faults, list)
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		which := filepath.Join(filepath.Dir(path), "fault_on.go")
		err = write(path, text)
		if err == nil && replace[filepath.Join(root, which)] == "" {
			err = write(which, fmt.Sprintf("package %s\n\nimport (\n\t\"os\"\n\t\"strconv\"\n)\n\nvar faultOn, _ = strconv.Atoi(os.Getenv(%q))\n", pkg, variable))
		}
		if err != nil {
			return "", err
		}
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, data, 0o644)
}

// twice is the source of a file with those of the faults that are listed.
func twice(source string, faults []fault, list []int) (text, pkg string, err error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "", source, parser.SkipObjectResolution)
	if err != nil {
		return "", "", err
	}
	offset := func(p token.Pos) int { return fset.Position(p).Offset }
	calls := map[int]string{} // by where they are put
	var copies strings.Builder
	for _, i := range list {
		f := &faults[i]
		if n := strings.Count(source, f.old); n != 1 {
			return "", "", fmt.Errorf("%q has its place there %d times, want once: %q", f.name, n, f.old)
		}
		at := strings.Index(source, f.old)
		n := slices.IndexFunc(file.Decls, func(d ast.Decl) bool { return offset(d.Pos()) <= at && at+len(f.old) <= offset(d.End()) })
		decl, ok := ast.Decl(nil), false
		if n >= 0 {
			decl = file.Decls[n]
		}
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || at < offset(fn.Body.Pos()) {
			return "", "", fmt.Errorf("%q is not in the body of a function", f.name)
		}
		name := fmt.Sprintf("%sFault%d", fn.Name.Name, i+1)
		call, err := callOf(fn, name)
		if err != nil {
			return "", "", fmt.Errorf("%q: %w", f.name, err)
		}
		calls[offset(fn.Body.Lbrace)+1] += fmt.Sprintf("\n\tif faultOn == %d {\n\t\t%s\n\t}\n", i+1, call)
		copies.WriteString("\n" + source[offset(fn.Pos()):offset(fn.Name.Pos())] + name +
			source[offset(fn.Name.End()):at] + f.instead + source[at+len(f.old):offset(fn.End())] + "\n")
	}
	var b strings.Builder
	last := 0
	places := make([]int, 0, len(calls))
	for at := range calls {
		places = append(places, at)
	}
	slices.Sort(places)
	for _, at := range places {
		b.WriteString(source[last:at] + calls[at])
		last = at
	}
	b.WriteString(source[last:] + copies.String())
	return b.String(), file.Name.Name, nil
}

// callOf is the statement that does what the function does by calling another with the same arguments.
func callOf(fn *ast.FuncDecl, name string) (string, error) {
	if fn.Recv != nil {
		if len(fn.Recv.List[0].Names) == 0 {
			return "", fmt.Errorf("the receiver of %s has no name", fn.Name.Name)
		}
		name = fn.Recv.List[0].Names[0].Name + "." + name
	}
	var args []string
	for _, field := range fn.Type.Params.List {
		dots := ""
		if _, ok := field.Type.(*ast.Ellipsis); ok {
			dots = "..."
		}
		for _, n := range field.Names {
			args = append(args, n.Name+dots)
		}
		if len(field.Names) == 0 || slices.ContainsFunc(field.Names, func(n *ast.Ident) bool { return n.Name == "_" }) {
			return "", fmt.Errorf("a parameter of %s has no name", fn.Name.Name)
		}
	}
	call := name + "(" + strings.Join(args, ", ") + ")"
	if fn.Type.Results == nil {
		return call + "\n\t\treturn", nil
	}
	return "return " + call, nil
}
