package door

import (
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/tenant"
)

const (
	protoV1 = "prometheus.WriteRequest"
	protoV2 = "io.prometheus.write.v2.Request"

	headerSamples    = "X-Prometheus-Remote-Write-Samples-Written"
	headerHistograms = "X-Prometheus-Remote-Write-Histograms-Written"
	headerExemplars  = "X-Prometheus-Remote-Write-Exemplars-Written"
)

// RemoteWrite is the remote write endpoint over an entry.
type RemoteWrite struct{ *Entry }

// ServeHTTP takes one request.
func (e RemoteWrite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, fmt.Sprintf("write: method: got %s, want POST", r.Method), http.StatusMethodNotAllowed)
		e.Answered(http.StatusMethodNotAllowed)
		return
	}
	format, written, err := e.serve(w, r)
	code := e.Answer(w, r, err)
	h := w.Header()
	if format == buffer.FormatRemoteWriteV2 && (err == nil || code == http.StatusBadRequest) {
		h.Set(headerSamples, strconv.Itoa(written.Samples))
		h.Set(headerHistograms, strconv.Itoa(written.Histograms))
		h.Set(headerExemplars, strconv.Itoa(written.Exemplars))
	}
	if err == nil {
		w.WriteHeader(code)
		return
	}
	http.Error(w, err.Error(), code)
}

func (e RemoteWrite) serve(w http.ResponseWriter, r *http.Request) (buffer.Format, Written, error) {
	format, err := formatOf(r.Header)
	if err != nil {
		return 0, Written{}, err
	}
	id, err := tenant.FromRequest(r)
	if err != nil {
		return format, Written{}, err
	}
	body, err := e.ReadBody(w, r)
	if err != nil {
		return format, Written{}, err
	}
	defer body.Release()
	written, err := e.Write(r.Context(), id, format, body.Bytes)
	return format, written, err
}

// formatOf negotiates the content type and encoding. What is left out is read
// as a plain 1.0 request, as Prometheus does.
func formatOf(h http.Header) (buffer.Format, error) {
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "snappy") {
		return 0, &MediaError{"Content-Encoding", enc, "snappy"}
	}
	ct := h.Get("Content-Type")
	if ct == "" {
		return buffer.FormatRemoteWriteV1, nil
	}
	const want = "application/x-protobuf, with proto=" + protoV1 + " or proto=" + protoV2
	media, params, err := mime.ParseMediaType(ct)
	if err != nil || media != "application/x-protobuf" {
		return 0, &MediaError{"Content-Type", ct, want}
	}
	switch params["proto"] {
	case "", protoV1:
		return buffer.FormatRemoteWriteV1, nil
	case protoV2:
		return buffer.FormatRemoteWriteV2, nil
	}
	return 0, &MediaError{"Content-Type", ct, want}
}
