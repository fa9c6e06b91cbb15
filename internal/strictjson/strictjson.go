// Package strictjson reads JSON that others send.
package strictjson

import (
	"encoding/json"
	"errors"
	"io"
)

// Decode reads one JSON object. Fields that are not known, and text after the object, are errors.
func Decode(r io.Reader, into any) error {
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
		return errors.New("text after the JSON object")
	}
	return nil
}
