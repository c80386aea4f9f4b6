package zipkin

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/tenant"
)

// Options are what a Handler is made of.
type Options struct {
	Entry      *door.Entry // its door knows buffer.FormatOTLPTraces
	Registerer prometheus.Registerer
}

// Handler serves the two paths that Zipkin's clients post spans to. It is safe
// for concurrent use and starts no goroutines.
type Handler struct {
	entry    *door.Entry
	metrics  *metrics
	decoders sync.Pool // *decoder
}

// New returns a handler.
func New(o Options) *Handler {
	return &Handler{entry: o.Entry, metrics: newMetrics(o.Registerer)}
}

const (
	pathV1 = "/api/v1/spans"
	pathV2 = "/api/v2/spans"
)

// Paths lists what a Handler serves, by POST. Zipkin's query API has the second
// one by GET.
func Paths() []string { return []string{pathV1, pathV2} }

// ServeHTTP serves one of Paths, whatever stands before it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isV1 := strings.HasSuffix(r.URL.Path, pathV1)
	if !isV1 && !strings.HasSuffix(r.URL.Path, pathV2) {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		h.entry.Answered(http.StatusMethodNotAllowed)
		answer(w, http.StatusMethodNotAllowed, fmt.Sprintf("method: got %s, want POST", r.Method))
		return
	}
	if err := h.take(w, r, formatOf(isV1, r.Header.Get("Content-Type"))); err != nil {
		answer(w, h.entry.Answer(w, r, err), err.Error())
		return
	}
	h.entry.Answered(http.StatusAccepted)
	w.WriteHeader(http.StatusAccepted)
}

// formatOf returns what a body holds: as with Zipkin, everything is JSON that
// does not say otherwise.
func formatOf(isV1 bool, contentType string) Format {
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
	case isV1 && media == "application/x-thrift":
		return Thrift
	case !isV1 && media == "application/x-protobuf":
		return Proto3
	}
	if isV1 {
		return JSONV1
	}
	return JSONV2
}

// take reads, converts and writes a request.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, f Format) error {
	id, err := tenant.FromRequest(r)
	if err != nil {
		return err
	}
	body, err := h.entry.ReadBody(w, r, door.Gzip, door.Zstd, door.Deflate)
	if err != nil {
		return err
	}
	defer body.Release()
	if len(body.Bytes) == 0 {
		return nil
	}
	d, ok := h.decoders.Get().(*decoder)
	if !ok {
		d = &decoder{}
	}
	defer func() {
		d.release()
		h.decoders.Put(d)
	}()
	payload, err := d.decode(f, body.Bytes, time.Now(), body.Charge)
	if err != nil {
		var bad *FormatError
		if errors.As(err, &bad) {
			h.metrics.refused.WithLabelValues(f.String()).Inc()
			h.entry.Reject(bad.reason, 1)
		}
		return err
	}
	h.metrics.spans.WithLabelValues(f.String()).Add(float64(d.build.Spans()))
	h.metrics.splits.Add(float64(d.splits))
	if d.build.Spans() == 0 {
		return nil
	}
	_, err = h.entry.Write(r.Context(), id, buffer.FormatOTLPTraces, payload)
	return err
}

// answer writes a text, as Zipkin does.
func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	// The client may be gone; there is nobody to tell.
	_, _ = w.Write([]byte(text))
}
