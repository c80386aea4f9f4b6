package jaeger

import "errors"

// Format is an encoding of batches.
type Format int

// Formats.
const (
	Thrift Format = iota // a jaeger.thrift Batch
	Proto                // a jaeger.api_v2.PostSpansRequest
)

// String names the format in metrics.
func (f Format) String() string { return [...]string{"thrift", "protobuf"}[f] }

// decoder turns a batch into an OTLP request. It is reused.
type decoder struct {
	encoder
	index int // of the span at hand
	span  span
	other process // of a single span

	payload []byte
}

// decode reads body and returns the OTLP request, which is valid until the next
// call. reserve is asked for memory.
func (d *decoder) decode(f Format, body []byte, reserve func(int) error) ([]byte, error) {
	d.build.Reset()
	d.build.Reserve = reserve
	d.process.reset()
	d.index = -1
	err := d.build.Expect(len(body))
	switch {
	case err != nil:
	case f == Thrift:
		err = d.thriftBatch(body)
	default:
		err = d.protoRequest(body)
	}
	if err != nil {
		return nil, err
	}
	d.payload = d.build.Payload(d.payload[:0])
	return d.payload, nil
}

// refuse is the error of a batch that is not understood.
func (d *decoder) refuse(err error) error {
	var bad *FormatError
	if errors.As(err, &bad) {
		return err
	}
	return &FormatError{Span: d.index, Detail: err.Error()}
}

// release gives back memory that is more than a usual request needs, and all
// that points into the body.
func (d *decoder) release() {
	d.build.Reset()
	d.span.reset()
	d.process.reset()
	d.other.reset()
	const mostTags = 1000
	if cap(d.span.tags)+cap(d.process.tags)+cap(d.other.tags) > mostTags {
		d.span, d.process, d.other = span{}, process{}, process{}
	}
	const most = 4 << 20
	if cap(d.payload) > most {
		d.payload = nil
	}
}
