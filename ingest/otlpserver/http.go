package otlpserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/tenant"
)

const (
	typeProtobuf = "application/x-protobuf"
	typeJSON     = "application/json"
)

// receiver is what both transports write by.
type receiver struct {
	entry   *door.Entry
	metrics *metrics
}

// write takes a payload in; a part that was refused is counted here.
func (v *receiver) write(ctx context.Context, id string, format buffer.Format, payload []byte) error {
	_, err := v.entry.Write(ctx, id, format, payload)
	var partial *door.PartialError
	if errors.As(err, &partial) {
		v.metrics.partial.Inc()
	}
	return err
}

// answered notes how a request is answered, and returns how.
func (v *receiver) answered(w http.ResponseWriter, r *http.Request, err error) reply {
	a := replyTo(err)
	var refused *requestError
	if a.http == http.StatusOK || errors.As(err, &refused) {
		v.entry.Answered(a.http)
	} else {
		v.entry.Answer(w, r, err)
	}
	return a
}

// httpReceiver is the endpoint of OTLP/HTTP for one kind.
type httpReceiver struct {
	*receiver
	kind *kind
}

func (v httpReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	media, err := mediaOf(r.Header)
	if err == nil {
		err = v.serve(w, r, media)
	}
	a := v.answered(w, r, err)
	respond(w, media, &a, v.kind)
}

func (v httpReceiver) serve(w http.ResponseWriter, r *http.Request, media string) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return refuse(http.StatusMethodNotAllowed, codes.Unimplemented, "method: got %s, want POST", r.Method)
	}
	id, err := tenant.FromRequest(r)
	if err != nil {
		return err
	}
	encoding := encodingOf(r.Header)
	body, err := v.entry.ReadBody(w, r, door.Gzip, door.Zstd, door.Deflate, door.Snappy)
	if err != nil {
		return err
	}
	defer body.Release()
	if media == typeProtobuf {
		v.metrics.request(v.kind.name, "http", "protobuf", encoding)
		return v.write(r.Context(), id, v.kind.format, body.Bytes)
	}
	v.metrics.request(v.kind.name, "http", "json", encoding)
	payload, err := protobufOf(v.kind, body)
	if err != nil {
		return err
	}
	return v.write(r.Context(), id, v.kind.format, payload)
}

// mediaOf returns the media type of a request, which is that of its answer; one
// that is not understood is answered in JSON, for a person.
func mediaOf(h http.Header) (string, error) {
	got := h.Get("Content-Type")
	switch media, _, err := mime.ParseMediaType(got); {
	case err == nil && (media == typeProtobuf || media == "application/protobuf"):
		return typeProtobuf, nil
	case err == nil && media == typeJSON:
		return typeJSON, nil
	}
	return typeJSON, &door.MediaError{Header: "Content-Type", Got: got, Want: typeProtobuf + " or " + typeJSON}
}

// encodingOf gives the names that exporters have for encodings the door's, and
// returns the name for metrics.
func encodingOf(h http.Header) string {
	switch encoding := strings.ToLower(strings.TrimSpace(h.Get("Content-Encoding"))); encoding {
	case "zlib":
		h.Set("Content-Encoding", door.Deflate)
		return door.Deflate
	case "x-snappy-framed":
		h.Set("Content-Encoding", door.Snappy)
		return door.Snappy
	case "":
		return "identity"
	default:
		return encoding // one that the door knows, once the body has been read
	}
}

// respond writes an answer. A failure is a google.rpc.Status; of a success, k is
// the kind.
func respond(w http.ResponseWriter, media string, a *reply, k *kind) {
	h := w.Header()
	h.Set("Content-Type", media)
	if a.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(a.retryAfter.Seconds()))))
	}
	if a.http == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	var m proto.Message = a.status()
	if a.http == http.StatusOK {
		m = k.response(a.partial)
	}
	marshal := proto.Marshal
	if media == typeJSON {
		marshal = protojson.Marshal
	}
	body, err := marshal(m)
	if err != nil {
		// Text that is not UTF-8, which error messages quote and thus are not.
		http.Error(w, fmt.Sprintf("encode answer: %v", err), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(a.http)
	_, _ = w.Write(body)
}

// httpHandler serves the listener of OTLP/HTTP.
func httpHandler(v *receiver, g gate, origins []string) http.Handler {
	return withOrigins(origins, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		media, _ := mediaOf(r.Header)
		err := g.check(r.Header)
		if k := kindOf(func(k *kind) bool { return k.path == r.URL.Path }); err == nil && k != nil {
			httpReceiver{v, k}.ServeHTTP(w, r)
			return
		}
		if err == nil {
			err = notServed(r.URL.Path)
		}
		a := v.answered(w, r, err)
		respond(w, media, &a, nil)
	}))
}

func notServed(path string) error {
	switch path {
	case "/v1development/profiles":
		return refuse(http.StatusNotFound, codes.Unimplemented, "profiles are not taken in: this server takes %s",
			listed("and", func(k *kind) string { return k.name + " at " + k.path }))
	}
	return refuse(http.StatusNotFound, codes.Unimplemented, "path: got %.200q, want %s", path, listed("or", func(k *kind) string { return k.path }))
}
