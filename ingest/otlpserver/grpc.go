package otlpserver

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/tenant"
)

const (
	healthMethod = "/grpc.health.v1.Health/Check"

	typeGRPC = "application/grpc"

	// prefixTimeout is how long a client may take to begin its message; the door
	// says how long for the rest.
	prefixTimeout = 30 * time.Second

	// prefixBytes precede a message: a flag that says whether it is compressed,
	// and its length.
	prefixBytes = 5
)

// grpcReceiver is the server of OTLP/gRPC: unary methods over HTTP/2.
type grpcReceiver struct {
	*receiver
	gate
	elsewhere string            // where OTLP/HTTP is served, for who came to the wrong port
	methods   map[string]Method // besides OTLP's
}

func (v *grpcReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if r.ProtoMajor != 2 || r.Method != http.MethodPost || media != typeGRPC && media != typeGRPC+"+proto" {
		media, _ := mediaOf(r.Header)
		a := v.answered(w, r, refuse(http.StatusUnsupportedMediaType, codes.Unimplemented, "this port speaks gRPC%s", v.elsewhere))
		respond(w, media, &a, nil)
		return
	}
	h := w.Header()
	h.Set("Content-Type", typeGRPC)
	h.Set("Grpc-Accept-Encoding", strings.Join(grpcEncodings(), ","))
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(prefixTimeout))
	if r.URL.Path == healthMethod {
		a, m := v.health(w, r)
		finish(w, &a, messageOf(&a, m))
		return
	}
	if k := kindOf(func(k *kind) bool { return k.method() == r.URL.Path }); k != nil {
		a := v.answered(w, r, v.call(w, r, func(ctx context.Context, id, encoding string, message []byte) error {
			v.metrics.request(k.name, "grpc", "protobuf", encoding)
			return v.write(ctx, id, k.format, message)
		}))
		h.Del("Retry-After") // a RetryInfo says it here
		finish(w, &a, messageOf(&a, k.response(a.partial)))
		return
	}
	if method := v.methods[r.URL.Path]; method != nil {
		var answer []byte
		a := replyTo(v.call(w, r, func(ctx context.Context, id, _ string, message []byte) (err error) {
			answer, err = method(ctx, id, message)
			return err
		}))
		finish(w, &a, answer)
		return
	}
	a := replyTo(notImplemented(r.URL.Path))
	finish(w, &a, nil)
}

// Method serves one unary method of gRPC besides OTLP's: it takes a message of a
// tenant and returns the answer's. Errors are those of an Entry. message is not
// used after it returns.
type Method func(ctx context.Context, tenantID string, message []byte) (answer []byte, err error)

func notImplemented(method string) error {
	if strings.HasPrefix(method, "/opentelemetry.proto.collector.profiles") {
		return refuse(http.StatusNotFound, codes.Unimplemented, "profiles are not taken in: this server takes %s",
			listed("and", func(k *kind) string { return k.name }))
	}
	return refuse(http.StatusNotFound, codes.Unimplemented, "method: got %.200q, want %s", method, listed("or", func(k *kind) string { return strconv.Quote(k.method()) }))
}

// call reads the message of a call that may come in and hands it to take.
func (v *grpcReceiver) call(w http.ResponseWriter, r *http.Request, take func(ctx context.Context, id, encoding string, message []byte) error) error {
	if err := v.check(r.Header); err != nil {
		return err
	}
	id, err := tenant.FromRequest(r)
	if err != nil {
		return err
	}
	timeout, err := timeoutOf(r.Header)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	r = r.WithContext(ctx)
	body, encoding, err := v.readMessage(w, r)
	if err != nil {
		return err
	}
	defer body.Release()
	return take(ctx, id, encoding, body.Bytes)
}

// readMessage reads the only message of a call and names its encoding.
func (v *grpcReceiver) readMessage(w http.ResponseWriter, r *http.Request) (*door.Body, string, error) {
	var prefix [prefixBytes]byte
	switch n, err := io.ReadFull(r.Body, prefix[:]); {
	case n == 0 && err == io.EOF:
		return nil, "", invalid("the call has no message")
	case err != nil:
		return nil, "", fmt.Errorf("read message: %w: %w", context.Canceled, err)
	}
	encoding := "identity"
	switch prefix[0] {
	case 0:
	case 1:
		if encoding = r.Header.Get("Grpc-Encoding"); !slices.Contains(grpcEncodings(), encoding) {
			return nil, "", &door.MediaError{Header: "Grpc-Encoding", Got: encoding, Want: strings.Join(grpcEncodings(), ", ")}
		}
	default:
		return nil, "", invalid("prefix of the message: got flag %d, want 0 or 1", prefix[0])
	}
	body, err := v.entry.ReadMessage(w, r, int(binary.BigEndian.Uint32(prefix[1:])), encoding)
	if err != nil {
		return nil, "", err
	}
	switch n, err := io.ReadFull(r.Body, prefix[:1]); {
	case n > 0:
		body.Release()
		return nil, "", invalid("the call has more than one message")
	case err != io.EOF:
		body.Release()
		return nil, "", fmt.Errorf("read message: %w: %w", context.Canceled, err)
	}
	return body, encoding, nil
}

func invalid(format string, args ...any) error {
	return refuse(http.StatusBadRequest, codes.InvalidArgument, format, args...)
}

// grpcEncodings are those of messages; a message may be plain whatever its call
// says.
func grpcEncodings() []string {
	return []string{"identity", door.Gzip, door.Zstd, door.Snappy, door.Deflate}
}

// timeoutOf returns how long the client waits for the answer.
func timeoutOf(h http.Header) (time.Duration, error) {
	const forever = 24 * time.Hour
	text := h.Get("Grpc-Timeout")
	if text == "" {
		return forever, nil
	}
	units := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}
	last := len(text) - 1
	unit := units[text[last]]
	n, err := strconv.ParseUint(text[:last], 10, 32)
	if err != nil || unit == 0 || last > 8 {
		return 0, invalid("grpc-timeout: got %.20q, want up to eight digits and one of H, M, S, m, u, n", text)
	}
	if n > uint64(forever/unit) {
		return forever, nil
	}
	return time.Duration(n) * unit, nil
}

// health answers the standard health check, which wants no token.
func (v *grpcReceiver) health(w http.ResponseWriter, r *http.Request) (reply, proto.Message) {
	body, _, err := v.readMessage(w, r)
	if err != nil {
		return replyTo(err), nil
	}
	defer body.Release()
	var check healthpb.HealthCheckRequest
	if err := proto.Unmarshal(body.Bytes, &check); err != nil {
		return replyTo(invalid("%v", err)), nil
	}
	if check.Service != "" && kindOf(func(k *kind) bool { return k.service == check.Service }) == nil {
		return replyTo(refuse(http.StatusNotFound, codes.NotFound, "service: got %.200q, want %s, or none", check.Service,
			listed("or", func(k *kind) string { return strconv.Quote(k.service) }))), nil
	}
	v.metrics.health.Inc()
	m := &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING}
	if v.isReady() {
		m.Status = healthpb.HealthCheckResponse_SERVING
	}
	return replyTo(nil), m
}

// messageOf returns the bytes of a call's answer; if they cannot be had, the call
// has failed.
func messageOf(a *reply, m proto.Message) []byte {
	if a.grpc != codes.OK {
		return nil
	}
	b, err := proto.Marshal(m)
	if err != nil {
		*a = reply{grpc: codes.Internal, text: fmt.Sprintf("encode answer: %v", err)}
	}
	return b
}

// finish sends the message, unless the call has failed, and the trailers.
func finish(w http.ResponseWriter, a *reply, message []byte) {
	if a.grpc == codes.OK {
		b := make([]byte, prefixBytes, prefixBytes+len(message))
		binary.BigEndian.PutUint32(b[1:], uint32(len(message)))
		_, _ = w.Write(append(b, message...))
	}
	h := w.Header()
	h.Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(int(a.grpc)))
	if a.text != "" {
		h.Set(http.TrailerPrefix+"Grpc-Message", percentEncode(a.text))
	}
	if details, err := a.details(); err == nil && len(details) > 0 {
		h.Set(http.TrailerPrefix+"Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(details))
	}
}

// details returns the status with a RetryInfo, if there is anything to tell.
func (r *reply) details() ([]byte, error) {
	if r.retryAfter <= 0 {
		return nil, nil
	}
	info, err := anypb.New(&errdetails.RetryInfo{RetryDelay: durationpb.New(r.retryAfter)})
	if err != nil {
		return nil, err
	}
	s := r.status()
	s.Details = append(s.Details, info)
	return proto.Marshal(s)
}

// percentEncode makes a text a value of grpc-message.
func percentEncode(s string) string {
	const most = 2 << 10
	var b strings.Builder
	for i := range min(len(s), most) {
		if c := s[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
