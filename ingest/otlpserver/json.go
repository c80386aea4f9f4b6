package otlpserver

import (
	"bytes"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/wire"
)

// protobufOf translates a request in JSON. What the parser
// makes of it is charged to the body first: it is larger than its text, and for
// a text made on purpose many times.
func protobufOf(k *kind, body *door.Body) ([]byte, error) {
	const (
		objectBytes  = 256 // of the largest message, and its place in a list
		elementBytes = 56  // of a number, its place in a growing list, and in protobuf
	)
	text := body.Bytes
	n := len(text) + objectBytes*bytes.Count(text, []byte("{")) + elementBytes*bytes.Count(text, []byte(","))
	if err := body.Charge(n); err != nil {
		return nil, err
	}
	payload, err := k.fromJSON(text)
	if err != nil {
		return nil, &wire.SyntaxError{Message: k.request + " in JSON", Detail: err.Error()}
	}
	return payload, nil
}
