package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestQueriesAreReadFromAFileOrFromStandardInput(t *testing.T) {
	const query = `{"from":"pod:shop/web-0","to":"dns:api","port":80,"protocol":"tcp"}` + "\n"
	file := filepath.Join(t.TempDir(), "queries.jsonl")
	if err := os.WriteFile(file, []byte("\n"+query), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path, in, err string
		want          int
	}{
		{"", query, "", 0},
		{"-", query + query, "", 2},
		{file, "", "", 1},
		{"-", query + "{\n", "-:2: ", 0},
		{"-", query + strings.Repeat("x", maxQueryLine+1), "-: bufio.Scanner: token too long", 0},
	} {
		list, err := readQueries(test.path, strings.NewReader(test.in))
		if len(list) != test.want || (err == nil) != (test.err == "") || err != nil && !strings.HasPrefix(err.Error(), test.err) {
			t.Errorf("%q: %d queries, %v; want %d, %q", test.path, len(list), err, test.want, test.err)
		}
	}
}
