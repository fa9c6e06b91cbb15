package alibaba

import (
	"strconv"
	"strings"
)

// The API gives the same field as a number here and as a string there ("Priority",
// "TotalCount", "StartPort"): its own SDK reads either, and so do these.

// number is an integer, or a string of one; an empty string is none.
type number int

func (n *number) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	if text == "" || text == "null" {
		*n = 0
		return nil
	}
	v, err := strconv.Atoi(text)
	if err != nil {
		return &valueError{string(data), "a number"}
	}
	*n = number(v)
	return nil
}

// boolean is true or false, or a string of it; an empty string is false.
type boolean bool

func (b *boolean) UnmarshalJSON(data []byte) error {
	switch text := strings.ToLower(strings.Trim(string(data), `"`)); text {
	case "true", "on":
		*b = true
	case "false", "off", "", "null":
		*b = false
	default:
		return &valueError{string(data), "a boolean"}
	}
	return nil
}

// valueError is a value that is not what its field holds.
type valueError struct{ token, want string }

func (e *valueError) Error() string { return "is not " + e.want }
