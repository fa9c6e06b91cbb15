package verdict_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// fill gives v a random value: empty ones, absent ones and odd texts among them.
func fill(random *rand.Rand, v reflect.Value) {
	if t, ok := v.Addr().Interface().(*time.Time); ok {
		*t = time.Unix(random.Int64N(1<<33), random.Int64N(1e9)).UTC()
		return
	}
	switch v.Kind() {
	case reflect.String:
		texts := []string{
			"", "eth0", "tcp 10.0.0.1:80 > 10.0.0.2:8080", `-m comment --comment "a -> b & c\d"`, "<b>", "naïve …", "a\tb\n\x00\x1f\x7f",
			"cut \xc3", "\xff\"", "line\u2028separator", "\U0001f600 & more",
		}
		v.SetString(texts[random.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(random.IntN(2) == 0)
	case reflect.Int:
		v.SetInt(random.Int64N(1<<40) - 1<<39)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(random.Uint64() >> (64 - v.Type().Bits()))
	case reflect.Float64:
		numbers := []float64{0, 1, -1, 0.5, 1.0 / 3, 1e-6, 9.99e-7, 1e-9, 5e-324, 1e20, 1e21, 123456.789, -1e-300, math.Copysign(0, -1), 0.33333333349}
		v.SetFloat(numbers[random.IntN(len(numbers))])
	case reflect.Pointer:
		if random.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(random, v.Elem())
		}
	case reflect.Slice:
		if n := random.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n))
			for i := range v.Len() {
				fill(random, v.Index(i))
			}
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range random.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(random, key)
			fill(random, value)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(random, v.Field(i))
		}
	default:
		panic("a report has a " + v.Kind().String())
	}
}

// TestAppendJSON compares with encoding/json, whatever a report holds.
func TestAppendJSON(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 5))
	for range 2000 {
		var r verdict.Report
		fill(random, reflect.ValueOf(&r).Elem())
		want, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.AppendJSON([]byte("before "))
		if err != nil || string(got) != "before "+string(want) {
			t.Fatalf("%v\n%s\nwant\n%s", err, got, want)
		}
	}
}

func TestAppendJSONFailsAsEncodingJSONDoes(t *testing.T) {
	nan := math.NaN()
	r := verdict.Report{Paths: []verdict.Path{{Probability: &nan}}}
	if _, err := r.AppendJSON(nil); err == nil {
		t.Error("a probability that is no number has no JSON")
	}
}
