package netfilter

import (
	"os"
	"reflect"
	"testing"

	"github.com/plumbline-net/plumbline/internal/proxyrules"
)

// careful reads JSON without the fast path.
func careful(data []byte) (jsonNode, error) { return parseJSONCarefully("nft.json", data) }

// checkFastJSON holds the fast reader against the careful one: what it accepts
// it reads the same.
func checkFastJSON(t *testing.T, data []byte) (accepted bool) {
	t.Helper()
	p := fastJSON{text: string(data)}
	got, ok := p.parse()
	if !ok {
		return false
	}
	want, err := careful(data)
	if err != nil {
		t.Fatalf("%q is accepted, but %v", data, err)
	}
	if !sameNodes(&want, &got) {
		t.Fatalf("%q is read as\n%+v\nnot\n%+v", data, got, want)
	}
	return true
}

// sameNodes compares trees; an empty list is none.
func sameNodes(a, b *jsonNode) bool {
	if a.kind != b.kind || a.text != b.text || a.end != b.end || len(a.list) != len(b.list) || len(a.keys) != len(b.keys) ||
		len(a.keys) > 0 && !reflect.DeepEqual(a.keys, b.keys) {
		return false
	}
	for i := range a.list {
		if !sameNodes(&a.list[i], &b.list[i]) {
			return false
		}
	}
	return true
}

func TestFastJSON(t *testing.T) {
	statements, err := os.ReadFile("testdata/every-statement.nft.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, accepted := range []string{
		string(statements), string((&proxyrules.Spec{Services: 3, Endpoints: 2, Idle: 1, NodePortEvery: 2}).NFTablesJSON()),
		"{}", " [ ] ", `[1,-2,0,true,false,null,"a\"bä\u00e4"]`, `{"a":{"b":[{}]}}`, "\n\t7\r\n", `""`,
	} {
		if !checkFastJSON(t, []byte(accepted)) {
			t.Errorf("gave up on %q", accepted[:min(len(accepted), 60)])
		}
	}
	for _, refused := range []string{
		"", "{", "[1", `{"a"}`, `{"a":}`, `{a:1}`, "[1,]", "01", "-", "1.5", "1e3", "nul", `"\x"`, `"`, "\"\xff\"", "[1] 2", `{"a":1,}`, "\"\n\"", "1 ]", "[[[[[",
	} {
		if checkFastJSON(t, []byte(refused)) {
			t.Errorf("accepted %q", refused)
		}
	}
}

func FuzzFastJSON(f *testing.F) {
	for _, seed := range []string{`{"nftables":[{"rule":{"expr":[1,"x\n",null,true]}}]}`, "[[],{}]", "-0", `"\ud800"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkFastJSON(t, data) })
}
