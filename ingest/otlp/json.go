package otlp

import (
	"fmt"

	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/vedette-io/vedette/ingest/wire"
)

// AppendProtoFromJSON appends the protobuf form of a request in OTLP's JSON to
// dst. A body or a result of more than maxBytes is refused with a
// *wire.SizeError, and what is not such a request with a *wire.SyntaxError; 0 is
// no limit.
func AppendProtoFromJSON(dst, body []byte, maxBytes int) ([]byte, error) {
	if maxBytes > 0 && len(body) > maxBytes {
		return dst, &wire.SizeError{What: "JSON body", Got: len(body), Limit: maxBytes}
	}
	req := pmetricotlp.NewExportRequest()
	if err := req.UnmarshalJSON(body); err != nil {
		return dst, &wire.SyntaxError{Message: "ExportMetricsServiceRequest in JSON", Detail: err.Error()}
	}
	b, err := req.MarshalProto()
	if err != nil {
		return dst, fmt.Errorf("encode request as protobuf: %w", err)
	}
	if maxBytes > 0 && len(b) > maxBytes {
		return dst, &wire.SizeError{What: "request as protobuf", Got: len(b), Limit: maxBytes}
	}
	return append(dst, b...), nil
}
