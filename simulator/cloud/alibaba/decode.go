package alibaba

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netfilter"
)

// Decode reads a file of responses of one action into the facts: one response, a
// list of them, or several one after the other, as pages and single resources
// come. Its name is that of the action, with the product before it where two
// have one of that name, and with anything after it: DescribeVpcs.json,
// nlb.ListListeners.json, DescribeHealthStatus.lb-1.json. A file of another name
// is left alone. A response that is an error makes the action failed, and so
// does a page that is missing.
//
// The error is a *netfilter.SyntaxError with file, line and token; nothing of the
// file is in the facts then.
func Decode(file string, data []byte, into *Facts) error {
	act, suffix, ok := actionOf(file)
	if !ok {
		return nil
	}
	d := &decoder{file: file, data: data, suffix: suffix, action: act}
	if err := d.documents(data, 0); err != nil {
		return err
	}
	if into.Read == nil {
		into.Read, into.Failed = map[string]bool{}, map[string]string{}
	}
	if len(d.adds) > 0 || d.failure == "" {
		into.Read[act.name] = true
	}
	for _, add := range d.adds {
		add(into)
	}
	d.account(into)
	return nil
}

// actionOf finds what a file holds by its name.
func actionOf(file string) (act *action, suffix string, ok bool) {
	name, isJSON := strings.CutSuffix(path.Base(file), ".json")
	if !isJSON {
		return nil, "", false
	}
	for i := range actions {
		a := &actions[i]
		rest, found := strings.CutPrefix(name, a.name)
		if !found && !a.shared {
			_, short, _ := strings.Cut(a.name, ".")
			rest, found = strings.CutPrefix(name, short)
		}
		if found && (rest == "" || rest[0] == '.' || rest[0] == '-' || rest[0] == '_') {
			return a, strings.TrimLeft(rest, ".-_"), true
		}
	}
	return nil, "", false
}

// decoder reads one file.
type decoder struct {
	file   string
	data   []byte
	suffix string
	action *action
	adds   []func(*Facts) // once all of the file is found good

	count   PageCount
	failure string // what the API said instead of an answer
}

// page is what pages of all products have in common, and responses that are errors.
type page struct {
	TotalCount number
	NextToken  string
	Code       string
	Message    string
	Success    boolean
}

// failed says whether a response is an error: those of NLB and ALB have a code when
// all is well, too.
func (p *page) failed() bool { return p.Code != "" && !bool(p.Success) }

// documents reads the responses in a piece of the file that begins at an offset.
func (d *decoder) documents(data []byte, offset int) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			var syntax *json.SyntaxError
			at := len(data)
			if errors.As(err, &syntax) && !errors.Is(err, io.ErrUnexpectedEOF) {
				at = max(0, int(syntax.Offset)-1)
			}
			return d.errorf(offset+at, d.tokenAt(offset+at), "not JSON: %v", err)
		}
		start := offset + int(dec.InputOffset()) - len(raw)
		switch raw[0] {
		case '[':
			if err := d.list(raw, start); err != nil {
				return err
			}
		case '{':
			if err := d.object(raw, start); err != nil {
				return err
			}
		default:
			return d.errorf(start, d.tokenAt(start), "want a response, an object")
		}
	}
}

// list reads a list of responses, which is no list of lists.
func (d *decoder) list(raw []byte, start int) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	_, _ = dec.Token()
	for dec.More() {
		var item json.RawMessage
		if err := dec.Decode(&item); err != nil {
			return d.errorf(start, "[", "not JSON: %v", err)
		}
		at := start + int(dec.InputOffset()) - len(item)
		if item[0] != '{' {
			return d.errorf(at, d.tokenAt(at), "want a response, an object")
		}
		if err := d.object(item, at); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) object(raw []byte, start int) error {
	var head page
	r, err := d.action.decode(raw)
	if err == nil {
		err = json.Unmarshal(raw, &head)
	}
	if err != nil {
		var typ *json.UnmarshalTypeError
		var value *valueError
		switch {
		case errors.As(err, &typ):
			at := start + max(0, int(typ.Offset)-1)
			return d.errorf(at, d.tokenAt(at), "%s is %s, and should be %s", typ.Field, typ.Value, plainType(typ.Type.Kind().String()))
		case errors.As(err, &value):
			return d.errorf(d.find(value.token, raw, start), value.token, "%v", value)
		}
		return d.errorf(start, d.tokenAt(start), "%v", err)
	}
	if head.failed() && r.size == 0 {
		d.failure = head.Code
		if head.Message != "" {
			d.failure += ": " + head.Message
		}
		return nil
	}
	if !r.named(d.suffix) {
		return d.errorf(start, path.Base(d.file), "the response does not say which resource it is about, nor does the name of the file")
	}
	j := new(judge)
	if r.judge(j); j.bad != nil {
		return d.errorf(d.find(j.bad.token, raw, start), j.bad.token, "%v", j.bad)
	}
	d.adds = append(d.adds, r.add)
	d.count.Total = max(d.count.Total, int(head.TotalCount))
	d.count.Items += r.size
	d.count.Pages++
	if head.NextToken != "" {
		d.count.More++
	}
	return nil
}

// PageCount is how much of an action's answer there should be, and how much there is.
type PageCount struct {
	Total, Items, Pages, More int  // More pages follow, as so many pages say
	Failed                    bool // an answer was an error
}

// account notes what is missing of an action, over all of its files.
func (d *decoder) account(into *Facts) {
	name := d.action.name
	if into.Pages == nil {
		into.Pages = map[string]PageCount{}
	}
	c := into.Pages[name]
	c = PageCount{max(c.Total, d.count.Total), c.Items + d.count.Items, c.Pages + d.count.Pages, c.More + d.count.More, c.Failed || d.failure != ""}
	into.Pages[name] = c
	if d.failure != "" {
		into.Failed[name] = d.failure
	}
	switch {
	case c.Failed:
	case d.action.counted && c.Items < c.Total:
		into.Failed[name] = fmt.Sprintf("%d of %d were read", c.Items, c.Total)
	case c.Pages > 0 && c.More == c.Pages:
		into.Failed[name] = "the last page was not read"
	default:
		delete(into.Failed, name)
	}
}

// find is where a value stands in a response.
func (d *decoder) find(token string, raw []byte, start int) int {
	for _, text := range []string{`"` + token + `"`, token} {
		if at := bytes.Index(raw, []byte(text)); at >= 0 {
			return start + at
		}
	}
	return start
}

func (d *decoder) errorf(offset int, token, format string, args ...any) error {
	const limit = 60
	if len(token) > limit {
		token = strings.ToValidUTF8(token[:limit], "") + "…"
	}
	return &netfilter.SyntaxError{
		File: d.file, Line: 1 + bytes.Count(d.data[:min(offset, len(d.data))], []byte{'\n'}),
		Token: token, Msg: fmt.Sprintf(format, args...),
	}
}

// tokenAt is the text from an offset to the next delimiter.
func (d *decoder) tokenAt(offset int) string {
	rest := d.data[min(offset, len(d.data)):]
	if end := bytes.IndexAny(rest, " \t\r\n,:[]{}"); end > 0 {
		rest = rest[:end]
	} else if end == 0 {
		rest = rest[:1]
	}
	return strings.ToValidUTF8(string(rest), "�")
}

// plainType names a kind of Go for people who read JSON.
func plainType(kind string) string {
	switch kind {
	case "struct":
		return "an object"
	case "slice":
		return "a list"
	}
	return "a " + kind
}
