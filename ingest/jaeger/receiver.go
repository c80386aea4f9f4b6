package jaeger

import (
	"context"
	"errors"
	"fmt"
	"html"
	"mime"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/tenant"
)

// Path is where batches are posted to. Jaeger's query API has it by GET.
const Path = "/api/traces"

// PostSpansMethod is the path of the method of gRPC that PostSpans serves.
const PostSpansMethod = "/jaeger.api_v2.CollectorService/PostSpans"

// Options are what a Receiver is made of.
type Options struct {
	Entry      *door.Entry // its door knows buffer.FormatOTLPTraces
	Registerer prometheus.Registerer
}

// Receiver takes batches. It is the handler of Path; PostSpans is the method of
// gRPC. It is safe for concurrent use and starts no goroutines.
type Receiver struct {
	entry    *door.Entry
	metrics  *metrics
	decoders sync.Pool // *decoder
}

// New returns a receiver.
func New(o Options) *Receiver {
	return &Receiver{entry: o.Entry, metrics: newMetrics(o.Registerer)}
}

// ServeHTTP takes a batch in Thrift.
func (v *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		v.entry.Answered(http.StatusMethodNotAllowed)
		http.Error(w, fmt.Sprintf("method: got %s, want POST", r.Method), http.StatusMethodNotAllowed)
		return
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	text := ""
	switch {
	case err != nil:
		text = fmt.Sprintf("Cannot parse content type: %v", err)
	case media != "application/x-thrift" && media != "application/vnd.apache.thrift.binary":
		text = "Unsupported content type: " + html.EscapeString(media)
	}
	if text != "" { // 400, as Jaeger has it
		v.entry.Answered(http.StatusBadRequest)
		http.Error(w, text, http.StatusBadRequest)
		return
	}
	if err := v.post(w, r); err != nil {
		text := err.Error()
		var bad *FormatError
		if errors.As(err, &bad) {
			text = "Unable to process request body: " + text
		}
		http.Error(w, text, v.entry.Answer(w, r, err))
		return
	}
	v.entry.Answered(http.StatusAccepted)
	w.WriteHeader(http.StatusAccepted)
}

func (v *Receiver) post(w http.ResponseWriter, r *http.Request) error {
	id, err := tenant.FromRequest(r)
	if err != nil {
		return err
	}
	body, err := v.entry.ReadBody(w, r, door.Gzip, door.Zstd, door.Deflate)
	if err != nil {
		return err
	}
	defer body.Release()
	return v.take(r.Context(), id, Thrift, body.Bytes, body)
}

// PostSpans takes a PostSpansRequest of a tenant and returns the bytes of the
// PostSpansResponse, which are none. Its errors are those of an Entry.
func (v *Receiver) PostSpans(ctx context.Context, tenantID string, message []byte) (response []byte, err error) {
	memory := v.entry.Memory()
	defer memory.Release()
	err = v.take(ctx, tenantID, Proto, message, memory)
	code, _ := door.Status(err)
	if err == nil {
		code = http.StatusOK
	}
	v.entry.Answered(code)
	return nil, err
}

// take converts and writes a batch; memory is charged for what it takes.
func (v *Receiver) take(ctx context.Context, tenantID string, f Format, body []byte, memory *door.Body) error {
	d, ok := v.decoders.Get().(*decoder)
	if !ok {
		d = &decoder{}
	}
	defer func() {
		d.release()
		v.decoders.Put(d)
	}()
	payload, err := d.decode(f, body, memory.Charge)
	if err != nil {
		var bad *FormatError
		if errors.As(err, &bad) {
			v.metrics.refused.WithLabelValues(f.String()).Inc()
			v.entry.Reject(wire.ReasonInvalidSpan, 1)
		}
		return err
	}
	v.metrics.spans.WithLabelValues(f.String()).Add(float64(d.build.Spans()))
	if d.build.Spans() == 0 {
		return nil
	}
	_, err = v.entry.Write(ctx, tenantID, buffer.FormatOTLPTraces, payload)
	return err
}
