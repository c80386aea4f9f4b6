package otlpserver

import (
	"bytes"

	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/wire"
)

// protobufOf translates an ExportMetricsServiceRequest in JSON. What the parser
// makes of it is charged to the body first: it is larger than its text, and for
// a text made on purpose many times.
func protobufOf(body *door.Body) ([]byte, error) {
	const (
		objectBytes  = 256 // of the largest message, and its place in a list
		elementBytes = 56  // of a number, its place in a growing list, and in protobuf
	)
	text := body.Bytes
	n := len(text) + objectBytes*bytes.Count(text, []byte("{")) + elementBytes*bytes.Count(text, []byte(","))
	if err := body.Charge(n); err != nil {
		return nil, err
	}
	request := pmetricotlp.NewExportRequest()
	if err := request.UnmarshalJSON(text); err != nil {
		return nil, &wire.SyntaxError{Message: "ExportMetricsServiceRequest in JSON", Detail: err.Error()}
	}
	return request.MarshalProto()
}
